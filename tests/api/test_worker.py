"""The worker's application: problems, strict parameters, services, OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Message

from api.application import create_app
from api.models.page import Cursor, Limit, Page, paginate
from api.parts import Worker
from api.routes import admin
from api.routes.strict import StrictRoute
from catalog.clock import FixedClock
from catalog.errors import NotFound
from storage.clock import FileClock
from storage.sql.audit import AuditLog
from storage.sql.database import open_database

ADMIN = {"x-tallyman-key-id": "k", "x-tallyman-scopes": "admin", "x-request-id": "r-9"}


class Thing(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="forbid")

    name: str
    counts: list[int] = []


class Filters(BaseModel):
    """Query parameters as a model."""

    colour: str | None = None


def shape(shape: str = "any") -> str:
    """A dependency with a query parameter."""
    return shape


def things() -> APIRouter:
    """Routes that succeed and fail in every way."""
    router = APIRouter(prefix="/v1/things", route_class=StrictRoute)

    @router.get("")
    def listing(
        filters: Annotated[Filters, Query()],
        form: Annotated[str, Depends(shape)],
        limit: Limit = 2,
        cursor: Cursor = None,
    ) -> Page[str]:
        return paginate([f"{form}{i}{filters.colour}" for i in range(3)], limit, cursor)

    @router.post("")
    def make(thing: Thing) -> Thing:
        return thing

    @router.get("/{name}")
    def one(name: str) -> Thing:
        if name == "bug":
            raise RuntimeError("secret detail")
        raise NotFound(f"no thing {name}")

    return router


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """A gateway in front of a worker."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://worker", headers=ADMIN)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A gateway in front of a worker with things."""
    hot = {"/v1/events": {"post": {"summary": "hot", "responses": {}}}}
    worker = Worker(socket=Path("unused"), routers=(things(),), hot_paths=hot)
    async with client_of(create_app(worker, version="1")) as client:
        yield client


async def test_a_known_query_is_answered(client: httpx.AsyncClient) -> None:
    """Parameters of the route, of its dependencies and of a query model are all known."""
    answer = await client.get("/v1/things?limit=1&shape=x&colour=red")

    assert answer.json()["items"] == ["x0red"]
    following = await client.get(f"/v1/things?cursor={answer.json()['next_cursor']}")
    assert following.json() == {"items": ["any1None", "any2None"], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limt=1", "?limt"), ("limit=0", "?limit"), ("limit=1001", "?limit"), ("limit=x", "?limit")],
)
async def test_a_wrong_query_is_422(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    """Unknown, out of bounds or unreadable: the pointer names the parameter."""
    answer = await client.get(f"/v1/things?{query}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b'{"name": "n", "counts": [1, "x"]}', 422, "/counts/1"),
        (b'{"counts": []}', 422, "/name"),
        (b'{"name": "n", "a/b": 1}', 422, "/a~1b"),
        (b"[]", 422, ""),
        (b'{"name":', 400, None),
        (b"", 422, ""),
    ],
)
async def test_a_wrong_body_points_at_the_field(
    client: httpx.AsyncClient, body: bytes, status: int, pointer: str | None
) -> None:
    """As a JSON pointer into the body; what is not JSON is 400."""
    answer = await client.post(
        "/v1/things", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == status
    assert [e["pointer"] for e in answer.json().get("errors", [])] == (
        [] if pointer is None else [pointer]
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/things/x", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("PATCH", "/v1/things", 405, "method_not_allowed"),
        ("GET", "/v1/things/bug", 500, "internal"),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """The framework's own errors and bugs too; a bug says nothing, but can be found by its id."""
    answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["instance"] == "r-9"
    assert "secret" not in answer.text


async def test_the_document_names_hot_routes_too(client: httpx.AsyncClient) -> None:
    """One OpenAPI document for the whole service, without what is internal."""
    paths = (await client.get("/openapi.json")).json()["paths"]

    assert set(paths) == {"/v1/things", "/v1/things/{name}", "/v1/events"}


class Recording:
    """A service that writes down when it starts, is told to end, and stops."""

    def __init__(self, name: str, events: list[str], *, broken: bool = False) -> None:
        self._name, self._events, self._broken = name, events, broken

    def start(self) -> None:
        """Write it down."""
        self._events.append(f"start {self._name}")

    def end(self) -> None:
        """Write it down."""
        self._events.append(f"end {self._name}")

    def stop(self) -> None:
        """Write it down; fail if broken."""
        self._events.append(f"stop {self._name}")
        if self._broken:
            raise OSError("cannot checkpoint")


async def lifespan(app: ASGIApp, between: list[str]) -> None:
    """Run an application's whole life."""
    incoming: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Message:
        if len(incoming) == 1:
            between.append("serving")
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_services_stop_in_reverse_even_if_one_fails() -> None:
    """What was opened is closed at the very end, whatever happened before."""
    events: list[str] = []
    worker = Worker(
        socket=Path("unused"),
        routers=(),
        services=(Recording("a", events), Recording("b", events, broken=True)),
        closers=(lambda: events.append("close 1"), lambda: events.append("close 2")),
    )

    await lifespan(create_app(worker, version="1"), events)

    told = ["start a", "start b", "serving", "end a", "end b"]
    assert events == [*told, "stop b", "stop a", "close 2", "close 1"]


async def test_readiness_is_told_to_the_gateway() -> None:
    """Each part by name, a broken check as not ready."""

    def broken() -> str | None:
        raise OSError("gone")

    checks = {"sql": lambda: None, "facts": lambda: "behind", "clickhouse": broken}
    worker = Worker(socket=Path("unused"), routers=(), checks=checks)
    async with client_of(create_app(worker, version="1")) as client:
        answer = await client.get("/internal/ready")

    assert answer.json() == {"not_ready": {"facts": "behind", "clickhouse": "OSError: gone"}}


class Beats:
    """Remembers where the clock stood at each heartbeat."""

    def __init__(self, clock: FileClock | FixedClock) -> None:
        self._clock = clock
        self.seen: list[int] = []

    async def __call__(self) -> None:
        """Be asked for heartbeats."""
        self.seen.append(self._clock.now_us())


async def test_the_sandbox_clock_moves_then_beats(tmp_path: Path) -> None:
    """The heartbeats come after the move, so that the watermark follows; none without a move."""
    clock = FileClock.create(tmp_path / "clock", 1_767_225_600_000_000)
    beats = Beats(clock)
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    router = admin.build_router(clock=clock, heartbeat=beats, audit=AuditLog(database))
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="1")
    async with client_of(app) as client:
        shown = await client.get("/v1/admin/clock")
        moved = await client.post("/v1/admin/clock", json={"now": "2026-01-01T01:00:00.5+01:00"})
        back = await client.post("/v1/admin/clock", json={"now": "2026-01-01T00:00:00Z"})
        beyond = await client.post("/v1/admin/clock", json={"now": "2100-01-01T00:00:00Z"})
        denied = await client.get("/v1/admin/clock", headers={"x-tallyman-scopes": "read"})
    database.close()

    assert shown.json()["now"] == "2026-01-01T00:00:00Z"
    assert moved.json()["now"] == "2026-01-01T00:00:00.500000Z"
    assert (back.status_code, back.json()["code"]) == (409, "clock_backwards")
    assert (beyond.status_code, denied.status_code) == (422, 403)
    assert beats.seen == [1_767_225_600_500_000]


async def test_only_a_sandbox_has_a_clock_to_move(tmp_path: Path) -> None:
    """Asking or moving is refused, and says why."""
    beats = Beats(FixedClock(0))
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    router = admin.build_router(clock=None, heartbeat=beats, audit=AuditLog(database))
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="1")
    async with client_of(app) as client:
        answers = [
            await client.get("/v1/admin/clock"),
            await client.post("/v1/admin/clock", json={"now": "2026-01-01T00:00:00Z"}),
        ]
    database.close()

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "not_sandbox")] * 2
