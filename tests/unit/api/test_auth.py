"""Keys, scopes and which route needs which."""

from __future__ import annotations

import pytest

from api.auth import Keyring, Principal, Unauthenticated, bearer_key, require, scopes_for
from catalog.clock import FixedClock, Micros
from catalog.errors import DomainError
from catalog.keys import KeyId, KeyRecord, Scope, key_digest


def record(name: str, **fields: Micros | None) -> KeyRecord:
    """What is kept of a key."""
    return KeyRecord(
        id=KeyId(name),
        digest=key_digest(f"key of {name}"),
        name=name,
        scopes=frozenset({Scope.READ}),
        created_at=Micros(0),
        **fields,
    )


def test_a_key_works_until_it_expires_or_is_revoked() -> None:
    """The clock decides, not the last look at the store."""
    clock = FixedClock(99)
    keyring = Keyring(
        [
            record("plain"),
            record("expiring", expires_at=Micros(100)),
            record("revoked", revoked_at=Micros(5)),
        ],
        clock=clock,
    )

    def found(name: str) -> str | None:
        principal = keyring.find(f"key of {name}")
        return principal and principal.key_id

    assert [found(n) for n in ("plain", "expiring", "revoked", "unknown")] == [
        "plain",
        "expiring",
        None,
        None,
    ]
    clock.set(100)
    assert found("expiring") is None


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"BEARER  a~b ", "a~b"),
        (b"Basic abc", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer a b", None),
        (b"Bearer \xff", None),
        (b"Bearer " + b"x" * 600, None),
    ],
)
def test_reading_the_header(header: bytes, key: str | None) -> None:
    """Only one well-formed bearer token is a key."""
    headers = [(b"host", b"x"), (b"authorization", header)]
    if key is None:
        with pytest.raises(Unauthenticated):
            bearer_key(headers)
    else:
        assert bearer_key(headers) == key


# One row a route of the interface: what a key with exactly that scope may do.
ROUTES = """
POST   /v1/events                                    ingest
POST   /v1/events/void                               ingest
GET    /v1/events                                    read
GET    /v1/events/s/1                                read
GET    /v1/events/unmatched                          read
GET    /v1/events/conflicts                          read
GET    /v1/meters/m/usage                            read
GET    /v1/meters                                    catalog read
PUT    /v1/meters/m                                  catalog
DELETE /v1/contracts/c                               catalog
GET    /v1/contracts/c/versions                      catalog read
PUT    /v1/customers/c                               catalog
GET    /v1/totals                                    finance read
GET    /v1/totals/l/explain                          finance read
GET    /v1/totals/l/events                           finance read
GET    /v1/periods/2026-01                           finance read
POST   /v1/periods/2026-01/close                     finance
POST   /v1/quotes                                    catalog finance
POST   /v1/simulations                               catalog finance
GET    /v1/customers/c/entitlements                  entitlements read
GET    /v1/customers/c/entitlements/f                entitlements read
POST   /v1/customers/c/entitlements/consume          entitlements
POST   /v1/customers/c/entitlements/reserve          entitlements
POST   /v1/entitlements/check                        entitlements
POST   /v1/customers/c/grants                        catalog entitlements
GET    /v1/customers/c/grants                        catalog entitlements read
GET    /v1/customers/c/current                       finance read
GET    /v1/invoices                                  finance read
POST   /v1/invoices/i/issue                          finance
GET    /v1/exports                                   finance read
GET    /v1/keys
POST   /v1/keys
GET    /v1/audit
POST   /v1/admin/clock
GET    /v1/anything/else
POST   /v1/eventsx
"""


@pytest.mark.parametrize("row", ROUTES.strip().splitlines())
@pytest.mark.parametrize("scope", list(Scope))
def test_every_route_opens_to_its_scopes_only(row: str, scope: Scope) -> None:
    """The whole matrix; admin opens everything, and what is not listed opens to admin only."""
    method, path, *allowed = row.split()
    principal = Principal(key_id="k", scopes=frozenset({scope}))
    try:
        require(principal, scopes_for(method, path))
        opened = True
    except DomainError as error:
        assert error.code == "forbidden"  # noqa: PT017
        opened = False

    assert opened == (scope in allowed or scope is Scope.ADMIN)
