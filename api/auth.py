"""Who asks, and what they may do: bearer keys, scopes, and the table of which route needs which.

A presented key is looked up by its digest (:mod:`catalog.keys`): no secret is ever compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from catalog.clock import Clock
from catalog.errors import DomainError
from catalog.keys import PREFIX, KeyRecord, Scope, allows, key_digest, key_id

KEY_CHARS_MAX = 512
_BEARER = re.compile(rb"(?i:bearer) +([\x21-\x7e]+) *")


class Unauthenticated(DomainError):
    """No key, or none that is known, in time and not revoked. The detail never says which."""

    code = "unauthenticated"


class Forbidden(DomainError):
    """The key is fine, and lacks the scope or is limited to something else."""

    code = "forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The key a request came with. ``customers`` and ``sources``: null is all of them."""

    key_id: str
    scopes: frozenset[str]
    customers: frozenset[str] | None = None
    sources: frozenset[str] | None = None

    @property
    def limited(self) -> bool:
        """Whether it reaches some customers or sources only (:mod:`api.reach`)."""
        return self.customers is not None or self.sources is not None

    def may(self, any_of: frozenset[Scope]) -> bool:
        """Whether one of its scopes is enough."""
        return any(allows(self.scopes, scope) for scope in any_of)


@dataclass(frozen=True, slots=True)
class Held:
    """A key of a keyring, live or not, and the principal it stands for."""

    record: KeyRecord
    principal: Principal


class Keyring:
    """Every key by digest, as of the last look at the store. Immutable."""

    def __init__(self, keys: Iterable[KeyRecord], *, clock: Clock) -> None:
        self._clock = clock
        self._keys: Mapping[bytes, Held] = {key.digest: Held(key, _principal(key)) for key in keys}

    def find(self, key: str) -> Principal | None:
        """The holder of ``key`` if it is live now, else None."""
        found = self.held(key)
        return found.principal if found is not None and self.is_live(found) else None

    def held(self, key: str) -> Held | None:
        """What is known of ``key``, if anything is. It need not be live."""
        return self._keys.get(key_digest(key))

    def is_live(self, held: Held) -> bool:
        """Whether one of this keyring's keys opens anything now."""
        return held.record.is_live(self._clock.now_us())


def _principal(key: KeyRecord) -> Principal:
    return Principal(key_id=key.id, scopes=key.scopes, customers=key.customers, sources=key.sources)


def is_damaged(key: str) -> bool:
    """Whether ``key`` looks like one of ours and cannot be: mistyped, or cut off."""
    return key.startswith(f"{PREFIX}_") and key_id(key) is None


def bearer_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key in the ``Authorization`` header.

    Raises:
        Unauthenticated: there is none, or it is no bearer token.
    """
    for name, value in headers:
        if name == b"authorization":
            match = _BEARER.fullmatch(value)
            if match is None or len(match[1]) > KEY_CHARS_MAX:
                break
            return match[1].decode()
    raise Unauthenticated("send a key: Authorization: Bearer <key>")


def require(principal: Principal, any_of: frozenset[Scope]) -> None:
    """Let ``principal`` pass, or not.

    Raises:
        Forbidden: none of its scopes is in ``any_of``.
    """
    if not principal.may(any_of):
        wanted = " or ".join(sorted(any_of | {Scope.ADMIN}))
        raise Forbidden(f"this needs the scope {wanted}")


def _scopes(*names: Scope) -> frozenset[Scope]:
    return frozenset(names)


_ADMIN = _scopes(Scope.ADMIN)
_READ = _scopes(Scope.READ)
_CATALOG = _scopes(Scope.CATALOG)
_CATALOG_READ = _scopes(Scope.CATALOG, Scope.READ)
_FINANCE = _scopes(Scope.FINANCE)
_FINANCE_READ = _scopes(Scope.FINANCE, Scope.READ)
_PREVIEW = _scopes(Scope.FINANCE, Scope.CATALOG)
_ENTITLED = _scopes(Scope.ENTITLEMENTS)
_ENTITLED_READ = _scopes(Scope.ENTITLEMENTS, Scope.READ)
_GRANTS = _scopes(Scope.ENTITLEMENTS, Scope.CATALOG)

# First match wins: (methods, path pattern, one of these scopes). Reads are GET and HEAD.
# What no row names needs admin, so that a route added without a row is closed, not open.
_GET, _ANY = frozenset({"GET", "HEAD"}), frozenset[str]()
_RULES: tuple[tuple[frozenset[str], re.Pattern[str], frozenset[Scope]], ...] = tuple(
    (methods, re.compile(pattern), scopes)
    for methods, pattern, scopes in (
        (frozenset({"POST"}), r"/v1/events(/void)?", _scopes(Scope.INGEST)),
        (_GET, r"/v1/events(/.*)?", _READ),
        (_GET, r"/v1/meters/[^/]+/usage", _READ),
        (_GET, r"/v1/customers/[^/]+/entitlements(/[^/]+)?", _ENTITLED_READ),
        (_ANY, r"/v1/customers/[^/]+/entitlements/.*", _ENTITLED),
        (_ANY, r"/v1/entitlements/.*", _ENTITLED),
        (_GET, r"/v1/customers/[^/]+/grants(/.*)?", _ENTITLED_READ | _CATALOG),
        (_ANY, r"/v1/customers/[^/]+/grants(/.*)?", _GRANTS),
        (_GET, r"/v1/customers/[^/]+/current", _FINANCE_READ),
        (_GET, r"/v1/(totals|periods|invoices|exports|journals|reports)(/.*)?", _FINANCE_READ),
        (_ANY, r"/v1/(periods|invoices|exports|journals)(/.*)?", _FINANCE),
        (_ANY, r"/v1/(quotes|simulations)", _PREVIEW),
        (
            _GET,
            r"/v1/(meters|features|products|pricebooks|customers|contracts|taxes)(/.*)?",
            _CATALOG_READ,
        ),
        (
            _ANY,
            r"/v1/(meters|features|products|pricebooks|customers|contracts|taxes|catalog)(/.*)?",
            _CATALOG,
        ),
    )
)


def scopes_for(method: str, path: str) -> frozenset[Scope]:
    """The scopes of which one is enough for ``method`` on ``path``."""
    for methods, pattern, scopes in _RULES:
        if (not methods or method in methods) and pattern.fullmatch(path):
            return scopes
    return _ADMIN
