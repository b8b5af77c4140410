"""The audit log from outside: one entry a change, by whom; none for no change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Service, cli
from tests.e2e.trust.keys import KeyChain

Do = Callable[[httpx.Client], httpx.Response]
GRANT = {"id": "audited", "feature": "tokens", "amount": "1"}
EXPORT = {"kind": "files", "folder": "a", "format": "csv", "schedule": {"every": "manual"}}
CHANGES: dict[str, tuple[Do, tuple[str, str, str] | None]] = {
    "a product": (
        lambda api: api.put("/v1/products/audited", json={"name": "A"}),
        ("products", "audited", "state"),
    ),
    "the same again": (lambda api: api.put("/v1/products/audited", json={"name": "A"}), None),
    "a wrong one": (lambda api: api.put("/v1/products/audited", json={"nam": "A"}), None),
    "a dry run": (
        lambda api: api.post(
            "/v1/catalog",
            json={"document": {"products": {"dry": {"name": "D"}}}, "dry_run": True},
        ),
        None,
    ),
    "its end": (
        lambda api: api.delete("/v1/products/audited"),
        ("products", "audited", "retire"),
    ),
    "its end again": (lambda api: api.delete("/v1/products/audited"), None),
    "what is in use": (lambda api: api.delete("/v1/meters/tokens"), None),
    "a grant": (
        lambda api: api.post("/v1/customers/acme/grants", json=GRANT),
        ("grants", "audited", "grant"),
    ),
    "the grant again": (lambda api: api.post("/v1/customers/acme/grants", json=GRANT), None),
    "another one of that id": (
        lambda api: api.post("/v1/customers/acme/grants", json=GRANT | {"amount": "2"}),
        None,
    ),
    "its revocation": (
        lambda api: api.delete("/v1/customers/acme/grants/audited"),
        ("grants", "audited", "revoke"),
    ),
    "an export": (
        lambda api: api.put("/v1/exports/audited", json=EXPORT),
        ("exports", "audited", "declare"),
    ),
    "the export again": (lambda api: api.put("/v1/exports/audited", json=EXPORT), None),
    "its retirement": (
        lambda api: api.delete("/v1/exports/audited"),
        ("exports", "audited", "retire"),
    ),
    "a month": (
        lambda api: api.post("/v1/periods/2026-01/close"),
        ("periods", "2026-01", "close"),
    ),
    "the month again": (lambda api: api.post("/v1/periods/2026-01/close"), None),
    "a month too early": (lambda api: api.post("/v1/periods/2026-03/close"), None),
    "the clock": (
        lambda api: api.post("/v1/admin/clock", json={"now": "2026-03-15T12:30:00Z"}),
        ("clock", "sandbox", "move"),
    ),
    "the clock again": (
        lambda api: api.post("/v1/admin/clock", json={"now": "2026-03-15T12:30:00Z"}),
        None,
    ),
    "the clock backwards": (
        lambda api: api.post("/v1/admin/clock", json={"now": "2026-03-15T12:00:00Z"}),
        None,
    ),
    "no key": (lambda api: api.delete("/v1/keys/none"), None),
}


@pytest.fixture(scope="module")
def editor(service: Service, keys: KeyChain) -> Iterator[tuple[httpx.Client, str]]:
    """Somebody else than the first admin, and the id of their key."""
    text = keys.make(scopes=["admin"])
    headers = {"authorization": f"Bearer {text}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        yield client, text.split("_")[1]


def last(service: Service) -> dict[str, Any]:
    """The newest entry."""
    [entry] = service.get("/v1/audit", limit=1)["items"]
    return dict(entry)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_one_entry(
    service: Service, editor: tuple[httpx.Client, str], what: str
) -> None:
    """Exactly one where something changed, by the key that asked; else none."""
    client, identity = editor
    do, expected = CHANGES[what]
    before = last(service)["position"]
    answer = do(client)
    assert answer.status_code < 500, answer.text
    entry = last(service)
    if expected is None:
        assert entry["position"] == before, entry
        return
    assert answer.is_success, answer.text
    assert entry["position"] == before + 1
    assert (entry["kind"], entry["subject"], entry["action"]) == expected
    assert entry["actor"] == identity


def test_the_command_shows_it(service: Service, keys: KeyChain) -> None:
    """As a table and as JSON, narrowed."""
    made = keys.make(scopes=["read"], name="seen by the audit").split("_")[1]
    shown = cli(service, "audit", "--kind", "keys", "--subject", made)
    assert made in shown
    assert "seen by the audit" in shown
    told = json.loads(cli(service, "audit", "--actor", "cli", "--format", "json"))
    assert {entry["actor"] for entry in told} == {"cli"}


def test_pages_follow_each_other(service: Service) -> None:
    """All entries, once each, the newest first."""
    found: list[int] = []
    cursor = None
    while True:
        page = service.get("/v1/audit", limit=3, **({"cursor": cursor} if cursor else {}))
        found += [entry["position"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == list(range(len(found), 0, -1))
