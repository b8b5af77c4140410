"""Grants over HTTP, on a real SQLite database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.application import create_app
from api.parts import Worker
from api.routes.grants import build_router
from catalog.clock import FixedClock, to_micros
from storage.sql.database import open_database
from storage.sql.grants import GrantStore
from tests.ledger_world import START, catalog, contract, right

GRANTS = "/v1/customers/acme/grants"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The worker's application with the grants' routes, as a key for entitlements."""
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    clock = FixedClock(to_micros(START))
    router = build_router(
        grants=GrantStore(database, clock),
        catalog=lambda: catalog(contract("k", right())),
        clock=clock,
    )
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"x-tallyman-scopes": "entitlements"}
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as api:
        yield api
    database.close()


async def test_a_grant_is_made_read_listed_and_ended(api: httpx.AsyncClient) -> None:
    """Decimals are strings, times are UTC, what was not given has its default."""
    made = await api.post(GRANTS, json={"id": "top-up", "feature": "tokens", "amount": "50.5"})
    assert made.status_code == 201
    assert made.json() == {
        "id": "top-up",
        "customer": "acme",
        "feature": "tokens",
        "amount": "50.5",
        "priority": 0,
        "effective_at": "2026-11-01T00:00:00Z",
        "expires_at": None,
        "rollover_max": None,
        "every": None,
        "anchor": None,
        "recorded_at": "2026-11-01T00:00:00Z",
        "revoked_at": None,
    }
    assert (await api.get(f"{GRANTS}/top-up")).json() == made.json()
    assert (await api.get(GRANTS)).json() == {"items": [made.json()], "next_cursor": None}
    ended = await api.delete(f"{GRANTS}/top-up")
    assert ended.json() == made.json() | {"revoked_at": "2026-11-01T00:00:00Z"}
    assert (await api.delete(f"{GRANTS}/top-up")).json() == ended.json()
    assert (await api.get(f"{GRANTS}/top-up")).json() == ended.json()


async def test_a_retry_with_an_id_grants_once(api: httpx.AsyncClient) -> None:
    """The same answer; another amount under the id is a conflict; without an id it is another."""
    body = {"id": "g", "feature": "tokens", "amount": 5, "expires_at": "2027-01-01T00:00:00+01:00"}
    first = await api.post(GRANTS, json=body)
    assert (await api.post(GRANTS, json=body)).json() == first.json()
    assert first.json()["expires_at"] == "2026-12-31T23:00:00Z"
    assert (await api.post(GRANTS, json=body | {"amount": 6})).status_code == 409
    for _ in range(2):
        await api.post(GRANTS, json={"feature": "tokens", "amount": "1"})
    assert len((await api.get(GRANTS)).json()["items"]) == 3
    page = (await api.get(GRANTS, params={"limit": 2})).json()
    rest = (await api.get(GRANTS, params={"cursor": page["next_cursor"]})).json()
    assert (len(page["items"]), len(rest["items"])) == (2, 1)


@pytest.mark.parametrize(
    ("asked", "shown", "anchor"),
    [
        ("month", "month", None),
        ({"every_months": 1}, "month", "contract"),
        ({"every_months": 3}, {"every_months": 3}, "calendar"),
    ],
)
async def test_a_grant_may_recur(
    api: httpx.AsyncClient, asked: object, shown: object, anchor: str | None
) -> None:
    """As entitlements say it; a retry is the same grant, another recurrence is not."""
    body = {"id": "g", "feature": "tokens", "amount": 5, "every": asked, "rollover_max": "1"}
    body |= {"anchor": anchor} if anchor else {}
    first = await api.post(GRANTS, json=body)
    assert (first.status_code, first.json()["every"]) == (201, shown)
    assert first.json()["anchor"] == (anchor or "contract")
    assert (await api.post(GRANTS, json=body)).json() == first.json()
    assert (await api.get(f"{GRANTS}/g")).json() == first.json()
    assert (await api.post(GRANTS, json=body | {"every": {"every_months": 2}})).status_code == 409


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({"amount": "0"}, 422, "/amount"),
    "negative": ({"amount": "-1"}, 422, "/amount"),
    "ten decimals": ({"amount": "1.0000000001"}, 422, "/amount"),
    "a float": ({"amount": 1.5}, 422, "/amount"),
    "unknown feature": ({"feature": "nothing"}, 422, "/feature"),
    "not metered": ({"feature": "seats"}, 422, "/feature"),
    "neither a sum nor a count": ({"feature": "peak"}, 422, "/feature"),
    "expires before it begins": ({"expires_at": "2026-10-01T00:00:00Z"}, 422, "/expires_at"),
    "local time": ({"effective_at": "2026-10-01T00:00:00"}, 422, "/effective_at"),
    "the year 3000": ({"effective_at": "3000-10-01T00:00:00Z"}, 422, "/effective_at"),
    "negative rollover": ({"rollover_max": "-1"}, 422, "/rollover_max"),
    "a week": ({"every": "week"}, 422, "/every"),
    "never": ({"every": {"every_months": 0}}, 422, "/every/every_months"),
    "an anchor of nothing": ({"anchor": "calendar"}, 422, "/anchor"),
    "an id with a slash": ({"id": "a/b"}, 422, "/id"),
    "unknown field": ({"colour": "red"}, 422, "/colour"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_grants_are_pointed_at(api: httpx.AsyncClient, name: str) -> None:
    """A clear problem, and nothing granted."""
    body, status, pointer = BAD[name]
    answer = await api.post(GRANTS, json={"feature": "tokens", "amount": "1"} | body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer)
    assert (await api.get(GRANTS)).json()["items"] == []


async def test_unknown_customers_and_scopes(api: httpx.AsyncClient) -> None:
    """404 for who is not there, 403 without the scope."""
    body = {"feature": "tokens", "amount": "1"}
    assert (await api.post("/v1/customers/nobody/grants", json=body)).status_code == 404
    assert (await api.get("/v1/customers/nobody/grants")).status_code == 404
    assert (await api.get(f"{GRANTS}/nothing")).status_code == 404
    assert (await api.delete(f"{GRANTS}/nothing")).status_code == 404
    reads = {"x-tallyman-scopes": "read"}
    assert (await api.post(GRANTS, json=body, headers=reads)).status_code == 403
    assert (await api.get(GRANTS, headers=reads)).status_code == 200
