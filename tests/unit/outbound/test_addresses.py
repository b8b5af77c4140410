"""Where a request may go: what a hostile URL tries, and that none of it gets inside."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from outbound.addresses import (
    ForbiddenAddress,
    Unresolved,
    endpoint,
    is_public,
    parse_networks,
    read_url,
    resolve_by_system,
)

# url, what its name resolves to ("" where the text alone must be enough; "system": ask for real)
HOSTILE = [
    # not https, or not a URL
    ("http://hooks.example/", ""),
    ("ftp://hooks.example/", ""),
    ("file:///etc/passwd", ""),
    ("gopher://127.0.0.1:6379/_FLUSHALL", ""),
    ("//hooks.example/", ""),
    ("hooks.example", ""),
    ("https://", ""),
    ("https:///path", ""),
    ("javascript:alert(1)", ""),
    # two readers would see two hosts
    ("https://user:secret@hooks.example/", ""),
    ("https://hooks.example@127.0.0.1/", ""),
    ("https://127.0.0.1#@hooks.example/", ""),
    ("https://hooks.example\\@127.0.0.1/", ""),
    ("https://hooks.example /", ""),
    ("https://hooks.example/\r\nHost: inside", ""),
    ("https://hooks.example\t.evil/", ""),
    ("https://hooks.example:99999/", ""),
    ("https://hooks.example:0/", ""),
    ("https://hooks.example:/", ""),
    ("https://ⓛocalhost/", ""),
    ("https://hooks%2eexample/", ""),
    ("https://-hooks.example/", ""),
    ("https://[::1", ""),
    ("https://[fe80::1%25eth0]/", ""),
    # numbers that a C library takes for 127.0.0.1
    ("https://2130706433/", ""),
    ("https://0x7f000001/", ""),
    ("https://0177.0.0.1/", ""),
    ("https://127.1/", ""),
    ("https://0/", ""),
    # addresses inside, written plainly
    ("https://127.0.0.1/", "system"),
    ("https://127.255.255.254/", "system"),
    ("https://0.0.0.0/", "system"),
    ("https://10.0.0.1/", "system"),
    ("https://172.16.0.1/", "system"),
    ("https://192.168.1.1/", "system"),
    ("https://169.254.169.254/latest/meta-data/", "system"),
    ("https://100.100.100.200/", "system"),
    ("https://168.63.129.16/", "system"),
    ("https://224.0.0.1/", "system"),
    ("https://255.255.255.255/", "system"),
    ("https://[::]/", "system"),
    ("https://[::1]/", "system"),
    ("https://[::ffff:127.0.0.1]/", "system"),
    ("https://[::ffff:a9fe:a9fe]/", "system"),
    ("https://[::127.0.0.1]/", "system"),
    ("https://[fe80::1]/", "system"),
    ("https://[fd00:ec2::254]/", "system"),
    ("https://[fec0::1]/", "system"),
    ("https://[ff02::1]/", "system"),
    ("https://[64:ff9b::7f00:1]/", "system"),
    ("https://[2002:7f00:1::]/", "system"),
    ("https://[2001:0:7f00:1::]/", "system"),
    ("https://localhost/", "system"),
    ("https://LOCALHOST./", "system"),
    # names that lead inside
    ("https://metadata.google.internal/", "169.254.169.254"),
    ("https://hooks.example/", "10.1.2.3"),
    ("https://hooks.example/", "fd12:3456::1"),
    ("https://hooks.example/", "93.184.216.34,127.0.0.1"),
    ("https://hooks.example/", "2606:4700::1111,::ffff:10.0.0.1"),
]


def resolving(found: str):
    """A resolver that answers ``found``, or fails the test if it should not be asked."""

    def resolve(host: str, port: int) -> Sequence[str]:
        assert found, f"{host} was looked up"
        if found == "system":
            return resolve_by_system(host, port)
        return found.split(",")

    return resolve


@pytest.mark.parametrize(("url", "found"), HOSTILE)
def test_no_hostile_url_gets_inside(url: str, found: str) -> None:
    """Each is refused, the ill-written ones before any name is looked up."""
    with pytest.raises(ForbiddenAddress):
        endpoint(url, resolve=resolving(found))


def test_the_table_is_a_table() -> None:
    """There are well over forty of them."""
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize(
    ("url", "found", "pinned", "authority"),
    [
        (
            "https://hooks.example/in?a=b",
            "93.184.216.34",
            "https://93.184.216.34:443/in?a=b",
            "hooks.example",
        ),
        (
            "https://Hooks.Example:8443",
            "2606:4700::1111",
            "https://[2606:4700::1111]:8443/",
            "hooks.example:8443",
        ),
        ("https://8.8.8.8/", "8.8.8.8", "https://8.8.8.8:443/", "8.8.8.8"),
    ],
)
def test_a_public_one_is_pinned(url: str, found: str, pinned: str, authority: str) -> None:
    """The connection goes to the address that was judged, the Host header names the name."""
    to = endpoint(url, resolve=resolving(found))
    assert (to.pinned, to.url.authority) == (pinned, authority)


def test_only_what_is_allowed_is_reached_inside() -> None:
    """An allowed network opens itself, for http too, and nothing beside it."""
    allowed = parse_networks("10.1.0.0/16, 127.0.0.1/32")
    inside = endpoint("http://hooks.inside/", allowed=allowed, resolve=resolving("10.1.9.9"))
    assert inside.pinned == "http://10.1.9.9:80/"
    mapped = endpoint("https://h.inside/", allowed=allowed, resolve=resolving("::ffff:10.1.0.1"))
    assert mapped.pinned.startswith("https://[::ffff:")
    for url, found in (
        ("https://hooks.inside/", "10.2.0.1"),
        ("https://hooks.inside/", "127.0.0.2"),
        ("http://hooks.example/", "93.184.216.34"),
        ("https://hooks.inside/", "10.1.0.1,10.2.0.1"),
    ):
        with pytest.raises(ForbiddenAddress):
            endpoint(url, allowed=allowed, resolve=resolving(found))


def test_a_name_without_an_address_is_not_forbidden() -> None:
    """It may have one later: the delivery is tried again."""

    def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(Unresolved):
        endpoint("https://hooks.example/", resolve=nothing)


def test_a_url_is_read_without_asking_anybody() -> None:
    """A declaration is checked while nobody may be reachable."""
    url = read_url("https://hooks.example:8443/a?b")
    assert (url.host, url.port, url.target) == ("hooks.example", 8443, "/a?b")
    for public in ("1.1.1.1", "2a00:1450::1"):
        from ipaddress import ip_address

        assert is_public(ip_address(public))
