"""Where a request may go: a URL is read strictly, resolved once, and every address judged.

The address that was judged is the one connected to, so a name that answers differently the second
time (rebinding) gains nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, urlsplit

from catalog.errors import DomainError, Unavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARACTERS_MAX = 2_048
PORTS = {"https": 443, "http": 80}

_WRITTEN = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
# What C libraries read as an IPv4 address although nobody writes one so: 127.1, 0x7f000001.
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?")
# Unicast addresses that IANA has given out; all that is not here (loopback, link-local, unique
# local, site-local, multicast, v4-compatible) is nobody's outside.
_GIVEN_OUT = ip_network("2000::/3")
# Special blocks that `is_global` of some supported Pythons still takes for public ones.
_SPECIAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # behind carriers' NAT, and clouds' metadata (Alibaba)
        "168.63.129.16/32",  # Azure's host, public by number and local by route
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside, whichever
        "3fff::/20",
    )
)


class ForbiddenAddress(DomainError):
    """The URL leads, or may lead, inside: nothing was sent."""

    code = "forbidden_address"


class Unresolved(Unavailable):
    """The host's name has no address now."""

    code = "unresolved_host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A URL that is written the one way. ``host`` is in lower case, without brackets."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A URL and the one address it may be reached at."""

    url: Url
    address: Address

    @property
    def pinned(self) -> str:
        """The URL with the address in place of the name."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.url.scheme}://{host}:{self.url.port}{self.url.target}"


Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as text. Raises OSError when there are none."""


def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the machine's resolver (hosts file, DNS)."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks between commas: ``10.1.0.0/16, fd00::/8``. An address is a network of one.

    Raises:
        ValueError: a part is no network, or has bits behind its mask.
    """
    parts = (part.strip() for part in text.split(","))
    return tuple(ip_network(part) for part in parts if part)


def read_url(text: str, *, allowed: Sequence[Network] = ()) -> Url:
    """Read ``text`` as a destination, without asking anybody.

    A host that is an address is judged at once. ``https`` only; ``http`` is accepted where some
    network is allowed (and then only reaches those). No credentials, fragment, odd characters, or
    numbers that only a C library would take for an address.

    Raises:
        ForbiddenAddress: with the reason.
    """
    if not _WRITTEN.fullmatch(text) or len(text) > URL_CHARACTERS_MAX or "\\" in text:
        raise ForbiddenAddress(f"a URL is 1 to {URL_CHARACTERS_MAX} visible ASCII characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ForbiddenAddress(f"the URL cannot be read: {error}") from error
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    if scheme not in PORTS or (scheme == "http" and not allowed):
        raise ForbiddenAddress("a destination is an https:// URL")
    if "@" in parts.netloc or "#" in text:
        raise ForbiddenAddress("a URL has no user, password or fragment")
    if port == 0 or parts.netloc.endswith(":"):
        raise ForbiddenAddress("the URL's port is not one")
    _check_host(host, bracketed="[" in parts.netloc)
    number = PORTS[scheme] if port is None else port
    url = Url(scheme=scheme, host=host.rstrip("."), port=number, target=_target(parts))
    with suppress(ValueError):  # a name is judged when it is resolved
        _check(ip_address(url.host), url, allowed)
    return url


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _check_host(host: str, *, bracketed: bool) -> None:
    if bracketed:
        if "%" in host:
            raise ForbiddenAddress("an address has no zone")
        return
    if _NUMERIC.fullmatch(host):
        try:
            ip_address(host)
        except ValueError as error:
            raise ForbiddenAddress(f"{host!r} is neither a name nor an address") from error
    elif not _NAME.fullmatch(host.rstrip(".")):
        raise ForbiddenAddress(f"{host[:80]!r} is not a host name")


def endpoint(
    text: str, *, allowed: Sequence[Network] = (), resolve: Resolve = resolve_by_system
) -> Endpoint:
    """The endpoint of a URL, resolved now. Every address of the name must be permitted.

    Args:
        text: the URL.
        allowed: networks inside that may be reached all the same.
        resolve: how a name becomes addresses.

    Raises:
        ForbiddenAddress: the URL, or one of its addresses, is not permitted.
        Unresolved: the name has no address.
    """
    url = read_url(text, allowed=allowed)
    try:
        found = [ip_address(each) for each in resolve(url.host, url.port)]
    except (OSError, UnicodeError, ValueError) as error:
        raise Unresolved(f"{url.host} has no address: {error}") from error
    if not found:
        raise Unresolved(f"{url.host} has no address")
    for address in found:
        _check(address, url, allowed)
    return Endpoint(url=url, address=found[0])


def _check(address: Address, url: Url, allowed: Iterable[Network]) -> None:
    inside = _unwrapped(address)
    if any(inside in network for network in allowed):
        return
    if url.scheme != "https":
        raise ForbiddenAddress(f"{url.host} is outside: only https goes there")
    if not is_public(address):
        raise ForbiddenAddress(
            f"{url.host} is {address}, which is not a public address; "
            "TALLYMAN_OUTBOUND__ALLOW may permit it"
        )


def is_public(address: Address) -> bool:
    """Whether ``address`` is somebody's out there, whatever it is wrapped in."""
    found = _unwrapped(address)
    if any(found in network for network in _SPECIAL):
        return False
    if isinstance(found, IPv6Address) and found not in _GIVEN_OUT:
        return False
    return found.is_global and not found.is_multicast


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside a v4-mapped one; others as they are."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
