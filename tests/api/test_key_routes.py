"""API keys over HTTP, on a real SQLite database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.application import create_app
from api.auth import Keyring
from api.parts import Worker
from api.routes.keys import build_router
from catalog.clock import SECOND_US, FixedClock
from catalog.keys import KeyId, KeyRecord, Scope, key_digest, key_id
from storage.sql.database import open_database
from storage.sql.keys import KeyStore

NOON = 1_767_268_800 * SECOND_US  # 2026-01-01T12:00:00Z


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands at noon."""
    return FixedClock(NOON)


@pytest.fixture
def keys(tmp_path: Path, clock: FixedClock) -> Iterator[KeyStore]:
    """A key store with one admin key in it."""
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    store = KeyStore(database, clock)
    first = KeyRecord(
        id=KeyId("first"),
        digest=key_digest("chosen by the operator"),
        name="first",
        scopes=frozenset({Scope.ADMIN}),
        created_at=clock.now_us(),
    )
    store.add(first)
    yield store
    database.close()


@pytest.fixture
async def api(keys: KeyStore, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    """The worker's application with the keys' routes, as an admin."""
    router = build_router(keys=keys, clock=clock)
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"x-tallyman-scopes": "admin"}
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as api:
        yield api


async def make(api: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    """Make a key that reads, or as told."""
    return await api.post("/v1/keys", json={"name": "reader", "scopes": ["read"], **fields})


def bytes_below(directory: Path) -> bytes:
    """Whatever the database wrote, its write-ahead log too."""
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def test_a_key_is_shown_once_and_works(
    api: httpx.AsyncClient, keys: KeyStore, clock: FixedClock
) -> None:
    """The text is in the first answer only, and the gateway knows its holder by it."""
    answer = await make(api, scopes=["read", "ingest"], expires_at="2026-01-01T12:00:10Z")
    assert answer.status_code == 201
    made = answer.json()
    text = made.pop("key")
    assert made == {
        "id": key_id(text),
        "name": "reader",
        "scopes": ["ingest", "read"],
        "created_at": "2026-01-01T12:00:00Z",
        "expires_at": "2026-01-01T12:00:10Z",
        "revoked_at": None,
        "customers": None,
        "sources": None,
    }
    assert (await api.get(f"/v1/keys/{made['id']}")).json() == made
    listed = await api.get("/v1/keys")
    assert sorted(each["id"] for each in listed.json()["items"]) == sorted(["first", made["id"]])
    assert text.rsplit("_", 2)[1] not in listed.text
    holder = Keyring(keys.all(), clock=clock).find(text.encode())
    assert holder is not None
    assert (holder.key_id, holder.scopes) == (made["id"], {"read", "ingest"})
    clock.set(NOON + 10 * SECOND_US)
    assert Keyring(keys.all(), clock=clock).find(text.encode()) is None


async def test_a_key_may_be_limited(
    api: httpx.AsyncClient, keys: KeyStore, clock: FixedClock
) -> None:
    """To customers or to sources; kept with it, shown with it."""
    made = (await make(api, customers=["b", "a"])).json()
    assert (made["customers"], made["sources"]) == (["a", "b"], None)
    holder = Keyring(keys.all(), clock=clock).find(made["key"].encode())
    assert holder is not None
    assert (holder.customers, holder.sources, holder.limited) == ({"a", "b"}, None, True)
    made = (await make(api, scopes=["ingest"], sources=["s"])).json()
    assert (await api.get(f"/v1/keys/{made['id']}")).json()["sources"] == ["s"]


async def test_the_secret_is_not_kept(api: httpx.AsyncClient, tmp_path: Path) -> None:
    """Neither the key nor its secret part is anywhere in the database's files."""
    text = (await make(api)).json()["key"]
    secret = text.split("_")[2].encode()
    contents = bytes_below(tmp_path)
    assert key_id(text).encode() in contents
    assert secret not in contents


async def test_a_revoked_key_is_closed(
    api: httpx.AsyncClient, keys: KeyStore, clock: FixedClock
) -> None:
    """Revoking is final and may be repeated; the record stays for the audit."""
    made = (await make(api)).json()
    for _ in range(2):
        assert (await api.delete(f"/v1/keys/{made['id']}")).status_code == 204
    shown = (await api.get(f"/v1/keys/{made['id']}")).json()
    assert shown["revoked_at"] == "2026-01-01T12:00:00Z"
    assert Keyring(keys.all(), clock=clock).find(made["key"].encode()) is None
    assert (await api.delete("/v1/keys/none")).status_code == 404
    assert (await api.get("/v1/keys/none")).status_code == 404


async def test_the_last_admin_key_stays(api: httpx.AsyncClient) -> None:
    """Nobody can lock everybody out; with a second admin key the first may go."""
    await make(api)
    refused = await api.delete("/v1/keys/first")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin_key")
    await make(api, scopes=["admin"])
    assert (await api.delete("/v1/keys/first")).status_code == 204


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"expires_at": "2026-01-01T12:00:00Z"}, "/expires_at"),
        ({"expires_at": "2026-01-02T12:00:00"}, "/expires_at"),
        ({"colour": "red"}, "/colour"),
        ({"customers": []}, "/customers"),
        ({"customers": ["a"], "sources": ["b"]}, ""),
        ({"scopes": ["admin"], "customers": ["a"]}, ""),
        ({"scopes": ["catalog"], "sources": ["a"]}, ""),
    ],
)
async def test_mistakes_are_pointed_at(
    api: httpx.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    """A key that would never work, or would do something unknown, is not made."""
    answer = await make(api, **fields)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert len((await api.get("/v1/keys")).json()["items"]) == 1


async def test_only_admins_come_near(api: httpx.AsyncClient) -> None:
    """Every other scope together is not enough."""
    headers = {"x-tallyman-scopes": "ingest,read,entitlements,catalog,finance"}
    answers = [
        await api.get("/v1/keys", headers=headers),
        await api.post("/v1/keys", headers=headers, json={"name": "x", "scopes": ["admin"]}),
        await api.delete("/v1/keys/first", headers=headers),
    ]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(403, "forbidden")] * 3
