"""The gateway's front door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import Keyring
from api.hot.dispatch import Dispatcher, Hot, Routes, respond_json
from api.hot.health import Readyz
from catalog.clock import FixedClock, Micros
from catalog.errors import Unavailable
from catalog.keys import KeyId, KeyRecord, key_digest
from catalog.keys import Scope as KeyScope

Observed = list[tuple[str, str, int]]


async def echo(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer what the dispatcher says about the request."""
    principal = scope["state"].get("principal")
    content = {
        "path_params": scope.get("path_params", {}),
        "key": principal and principal.key_id,
        "request_id": scope["state"]["request_id"],
    }
    await respond_json(send, content)


async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Raise what nobody expected."""
    raise RuntimeError("secret detail")


async def refuse(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Raise a domain error."""
    raise Unavailable("full", retry_after_s=3)


async def relayed(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Stand in for the relay."""
    await respond_json(send, "relayed")


class Door:
    """A dispatcher with keys that appear at the second look, and what it observed."""

    def __init__(self) -> None:
        self.looks = 0
        self.observed: Observed = []
        self.keys = [self._key("admin", KeyScope.ADMIN), self._key("ingest", KeyScope.INGEST)]
        self.new_keys: list[KeyRecord] = []
        routes = [
            Hot(method="GET", path="/healthz", handler=echo, open=True),
            Hot(method="POST", path="/v1/events", handler=echo),
            Hot(method="POST", path="/v1/events/void", handler=fail),
            Hot(method="POST", path="/v1/entitlements/check", handler=refuse),
            Hot(method="POST", path="/v1/customers/{customer}/entitlements/consume", handler=echo),
        ]
        self.app: ASGIApp = Dispatcher(
            routes=Routes(routes),
            fallback=relayed,
            keyring=lambda: Keyring(self.keys, clock=FixedClock(1)),
            look_again=self._look_again,
            observe=lambda method, route, status, _: self.observed.append((method, route, status)),
            headers=((b"tallyman-sandbox", b"true"),),
        )

    async def _look_again(self) -> None:
        self.looks += 1
        self.keys, self.new_keys = [*self.keys, *self.new_keys], []

    @staticmethod
    def _key(name: str, scope: KeyScope) -> KeyRecord:
        return KeyRecord(
            id=KeyId(name),
            digest=key_digest(name),
            name=name,
            scopes=frozenset({scope}),
            created_at=Micros(0),
        )


@pytest.fixture
def door() -> Door:
    """A front door with an admin and an ingest key."""
    return Door()


@pytest.fixture
async def client(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """A caller without a key."""
    transport = httpx.ASGITransport(door.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def key(name: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {name}"}


async def test_hot_open_and_relayed_routes(client: httpx.AsyncClient, door: Door) -> None:
    """Each request goes where it belongs and is counted under its template."""
    assert (await client.get("/healthz")).json()["key"] is None
    hot = await client.post("/v1/customers/a%2Fb%20c/entitlements/consume", headers=key("admin"))
    assert hot.json()["path_params"] == {"customer": "a/b c"}
    assert (await client.get("/v1/events", headers=key("admin"))).json() == "relayed"
    assert hot.headers["tallyman-sandbox"] == "true"
    assert door.observed == [
        ("GET", "/healthz", 200),
        ("POST", "/v1/customers/{customer}/entitlements/consume", 200),
        ("GET", "relayed", 200),
    ]


async def test_who_may_pass(client: httpx.AsyncClient) -> None:
    """No key and an unknown one are 401 with a challenge, a key without the scope is 403."""
    nobody = await client.post("/v1/events")
    unknown = await client.post("/v1/events", headers=key("nobody"))
    ingest = await client.post("/v1/events", headers=key("ingest"))
    beyond = await client.get("/v1/totals", headers=key("ingest"))

    assert [r.status_code for r in (nobody, unknown, ingest, beyond)] == [401, 401, 200, 403]
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert ingest.json()["key"] == "ingest"


@pytest.mark.parametrize("path", ["/internal/ready", "/%69nternal/ready", "/internal"])
async def test_internal_routes_do_not_exist_outside(client: httpx.AsyncClient, path: str) -> None:
    """Not even for an admin, however the path is written."""
    assert (await client.get(path, headers=key("admin"))).status_code == 404


async def test_an_encoded_slash_hides_no_route(client: httpx.AsyncClient, door: Door) -> None:
    """The scopes of both readings of a path are needed."""
    door.keys.append(Door._key("catalog", KeyScope.CATALOG))

    hidden = await client.get("/v1/customers/x%2Fcurrent", headers=key("catalog"))
    hot = await client.post("/v1/customers/a%2Fb/entitlements/consume", headers=key("catalog"))

    assert (hidden.status_code, hot.status_code) == (403, 403)


async def test_a_key_made_elsewhere_works_at_once(client: httpx.AsyncClient, door: Door) -> None:
    """An unknown key makes the gateway look again before it refuses."""
    door.new_keys.append(Door._key("fresh", KeyScope.INGEST))

    assert (await client.post("/v1/events", headers=key("fresh"))).status_code == 200
    assert door.looks == 1
    assert (await client.post("/v1/events", headers=key("fresh"))).status_code == 200
    assert door.looks == 1


async def test_errors_become_problems(client: httpx.AsyncClient) -> None:
    """A domain error says what it is; an unexpected one says nothing."""
    refused = await client.post("/v1/entitlements/check", headers=key("admin"))
    failed = await client.post("/v1/events/void", headers=key("admin"))

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert refused.json()["detail"] == "full"
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert "secret" not in failed.text
    assert failed.json()["instance"] == failed.headers["x-request-id"]


async def test_the_request_id_is_kept_if_it_is_one(client: httpx.AsyncClient) -> None:
    """A caller's id comes back; one that could forge log lines does not."""
    kept = await client.get("/healthz", headers={"x-request-id": "trace-1.2:3"})
    made = [await client.get("/healthz", headers={"x-request-id": "a b"}) for _ in range(2)]

    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "trace-1.2:3"
    assert len({"a b", *(answer.headers["x-request-id"] for answer in made)}) == 3


async def test_readiness_names_what_is_missing() -> None:
    """All checks run; a slow or broken one is named too."""

    async def fine() -> None:
        return None

    async def behind() -> str:
        return "not running"

    async def broken() -> str:
        raise OSError("gone")

    readyz = Readyz({"sql": fine})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(readyz), base_url="http://g") as c:
        assert (await c.get("/readyz")).json() == {"ready": True, "not_ready": {}}
        readyz.add("worker", behind)
        readyz.add("log", broken)
        answer = await c.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "not_ready": {"worker": "not running", "log": "OSError: gone"},
    }


async def test_who_asks_at_once_shares_one_look() -> None:
    """And whoever asks later gets another one; a caller who leaves takes nothing along."""
    looks = 0

    async def slow() -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.05)

    transport = httpx.ASGITransport(Readyz({"sql": slow}))
    async with httpx.AsyncClient(transport=transport, base_url="http://g") as c:
        leaving = asyncio.create_task(c.get("/readyz"))
        await asyncio.sleep(0.01)
        asked = [asyncio.create_task(c.get("/readyz")) for _ in range(50)]
        leaving.cancel()
        assert {(await each).status_code for each in asked} == {200}
        assert looks == 1
        await c.get("/readyz")
    assert looks == 2


async def test_a_wrong_method_names_the_right_ones(client: httpx.AsyncClient) -> None:
    """405 with ``Allow`` where the worker has nothing; HEAD is like GET."""
    for method, path, allowed in (
        ("POST", "/healthz", "GET"),
        ("GET", "/v1/entitlements/check", "POST"),
        ("DELETE", "/v1/events", "GET, POST"),
        ("GET", "/v1/customers/c/entitlements/consume", "POST"),
    ):
        answer = await client.request(method, path, headers=key("admin"))
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
    assert (await client.head("/healthz")).status_code == 200
