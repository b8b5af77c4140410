"""Looking events up, and why some are in no line: over the worker's application and chDB."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from api.application import create_app
from api.conflicts import Conflicts
from api.eventlog import EventLog
from api.freshness import Freshness
from api.parts import Worker
from api.readers.base import Pace
from api.readers.clickhouse import ClickHouseReader
from api.routes.events import build_router
from catalog.events import RecordKind
from catalog.snapshot import Catalog
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.events import ClickHouseEvents
from storage.clickhouse.store import ClickHouseStore
from tests.catalogs import catalog_of
from tests.logs_in_memory import T0, MemoryTail, event, void

DATABASES = itertools.count()
ADMIN = {"x-tallyman-key-id": "k", "x-tallyman-scopes": "read"}
TREE = {
    "meters": {
        "tokens": {
            "event_type": "call",
            "aggregation": "sum",
            "value": "data.x",
            "dimensions": {"region": "data.region"},
        },
        "pings": {"event_type": "ping", "aggregation": "count", "billable": False},
    },
    "products": {
        "eu": {"name": "EU", "meter": "tokens", "filter": {"region": {"in": ["eu"]}}},
    },
    "pricebooks": {
        "list": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [{"product": "eu", "charge": {"model": "per_unit", "unit_price": "0.01"}}],
        }
    },
    "customers": {
        "acme": {"name": "Acme", "subjects": ["acme", {"subject": "late", "from": "2026-12-01"}]},
        "bare": {"name": "Bare", "subjects": ["bare"]},
    },
    "contracts": {"k1": {"customer": "acme", "pricebook": "list", "start": "2026-10-15"}},
}


class World:
    """A log in memory, followed into chDB, behind the routes."""

    def __init__(self, chdb_path: Path) -> None:
        self.tail = MemoryTail()
        self.catalog = catalog_of(TREE)
        database = f"lookups_{next(DATABASES)}"
        clickhouse = ClickHouse(Address(path=chdb_path, database=database))
        self.reader = ClickHouseReader(
            tails=self.tails,
            specs=dict,
            store=ClickHouseStore(clickhouse),
            pace=Pace(poll_s=0.01),
        )
        freshness = Freshness(
            watermark_tails=self.tails, positions=self.reader, heartbeats=self.heartbeats
        )
        events = EventLog(events=ClickHouseEvents(clickhouse), catalogs=self, freshness=freshness)
        self.compensations = MemoryTail("n.0001.compensations")
        conflicts = Conflicts(
            compensations=lambda: self.compensations,
            tails=self.tails,
            freshness=freshness,
        )
        router = build_router(events=events, conflicts=conflicts)
        worker = Worker(socket=Path("unused"), routers=(router,))
        self.app = create_app(worker, version="test")

    def tails(self) -> dict:
        """The one log, by node."""
        return {self.tail.node: self.tail}

    async def heartbeats(self) -> None:
        """The log is in memory: its last record is as good as a heartbeat."""

    def current(self) -> Catalog:
        """The catalog of the test."""
        return self.catalog

    async def get(self, path: str, status: int = 200, **params: object) -> dict:
        """The JSON answer to a reader."""
        answer = await self.client.get(path, params=params or None, headers=ADMIN)
        assert status == answer.status_code, answer.text
        return answer.json()


@pytest.fixture
async def world(chdb_path: Path) -> AsyncIterator[World]:
    """A fresh world whose reader runs."""
    made = World(chdb_path)
    made.reader.start()
    transport = httpx.ASGITransport(app=made.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        made.client = client
        yield made
    made.reader.stop()


def call(
    name: str, *, at: datetime = T0, data: str = '{"x":"1","region":"eu"}', **given: object
) -> dict:
    """One metered event of acme in the EU."""
    return event(data, id=name, time=at, **given)


def ids(answer: dict) -> list[str]:
    """The ids of a page's items."""
    return [item["id"] for item in answer["items"]]


async def test_an_event_is_found_as_it_was_sent(world: World):
    """Data keeps its digits and key order, and the answer says what became of the event."""
    data = '{"region":"eu","x":"1.50","n":12345678901234567890123}'
    world.tail.append(call("e 1", data=data, source="svc"))
    answer = await world.client.get("/v1/events/svc/e%201", headers=ADMIN)
    assert answer.status_code == 200
    assert f'"data":{data}' in answer.text
    found = answer.json()
    assert tuple(found[name] for name in ("status", "reason", "node", "seq")) == (
        "counted",
        None,
        "n1",
        1,
    )
    assert found["time"] == "2026-11-01T00:00:00Z"


@pytest.mark.parametrize("path", ["https%3A%2F%2Fa%2Fb/x", "https://a/b/x", "https%3A//a%2Fb/x"])
async def test_slashes_of_a_source_may_be_sent_either_way(world: World, path: str):
    """A source that is a URL is found encoded and as it is."""
    world.tail.append(call("x", source="https://a/b"))
    assert (await world.get(f"/v1/events/{path}"))["source"] == "https://a/b"


async def test_an_id_with_a_slash_is_found(world: World):
    """A raw slash may belong to either part."""
    world.tail.append(call("2026/11/x", source="svc"))
    assert (await world.get("/v1/events/svc/2026/11/x"))["id"] == "2026/11/x"


async def test_an_unknown_event_is_404(world: World):
    """So is a path that names only half of an identity."""
    world.tail.append(call("x"))
    assert (await world.get("/v1/events/test/y", status=404))["code"] == "not_found"
    await world.get("/v1/events/%FF/%00", status=404)


async def test_lists_filter_and_page_newest_first(world: World):
    """Subject, type and the half-open interval restrict; pages neither repeat nor skip."""
    hours = [T0 + timedelta(hours=n) for n in range(6)]
    world.tail.append(*(call(f"c{n}", at=at) for n, at in enumerate(hours)))
    world.tail.append(call("other", at=hours[3], subject="beta"), call("p", kind="ping"))
    first = await world.get("/v1/events", subject="acme", type="call", limit=4)
    assert ids(first) == ["c5", "c4", "c3", "c2"]
    given = {"subject": "acme", "type": "call", "limit": 4, "cursor": first["next_cursor"]}
    second = await world.get("/v1/events", **given)
    assert (ids(second), second["next_cursor"]) == (["c1", "c0"], None)
    bounds = {"from": hours[1].isoformat(), "to": hours[3].isoformat()}
    assert ids(await world.get("/v1/events", **bounds)) == ["c2", "c1"]


async def test_a_void_shows_with_its_instant(world: World):
    """A void event is still found, and says since when it does not count."""
    world.tail.append(call("v"), void(1))
    found = await world.get("/v1/events/test/v")
    assert (found["status"], found["reason"]) == ("void", None)
    assert found["voided_at"].startswith("2026-11-01T00:00:02")
    assert ids(await world.get("/v1/events/unmatched")) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": "typo"}, "no_meter"),
        ({"data": '{"region":"eu"}'}, "missing_value"),
        ({"data": "{}", "subject": "nobody"}, "missing_value"),
        ({"subject": "nobody"}, "no_customer"),
        ({"subject": "late"}, "no_customer"),
        ({"subject": "late", "at": datetime.fromisoformat("2026-12-01T00:00:00Z")}, None),
        ({"subject": "bare"}, "no_contract"),
        ({"at": datetime.fromisoformat("2026-10-14T23:59:59Z")}, "no_contract"),
        ({"at": datetime.fromisoformat("2026-10-15T00:00:00Z")}, None),
        ({"data": '{"x":"1","region":"us"}'}, "no_price"),
        ({"kind": "ping"}, "no_price"),
        ({}, None),
    ],
)
async def test_every_event_is_counted_or_has_its_reason(world: World, given: dict, reason):
    """The reason is the first link of meter, value, customer, contract and price that fails."""
    world.tail.append(call("e", **given))
    found = await world.get("/v1/events/test/e")
    assert reason == found["reason"]
    listed = await world.get("/v1/events/unmatched")
    assert ([reason] if reason else []) == [item["reason"] for item in listed["items"]]


async def test_unmatched_pages_and_filters_by_reason(world: World):
    """Counted events between do not end a page; the cursor goes on after the last one shown."""
    kinds = ["typo", "call", "ping", "typo", "call", "typo"]
    hours = [T0 + timedelta(hours=n) for n in range(6)]
    world.tail.append(*(call(f"e{n}", kind=kind, at=hours[n]) for n, kind in enumerate(kinds)))
    first = await world.get("/v1/events/unmatched", limit=2)
    assert ids(first) == ["e5", "e3"]
    second = await world.get("/v1/events/unmatched", limit=2, cursor=first["next_cursor"])
    assert (ids(second), second["next_cursor"]) == (["e2", "e0"], None)
    assert ids(await world.get("/v1/events/unmatched", reason="no_price")) == ["e2"]


async def test_conflicts_are_copies_that_differ(world: World):
    """Both sides are shown, in the order they were found, page by page; equal copies are not."""
    world.tail.append(call("e1"), call("e1"), call("e2"), call("e2", data='{"x":"9.50"}'))
    told = '{"counted":["n1",%d]%s}'
    found = {"kind": RecordKind.COLLAPSED, "source": "test", "type": "n1"}
    world.compensations.append(
        found | {"id": "e1", "target": 2, "data": told % (1, "")},
        found | {"id": "e2", "target": 4, "data": told % (3, ',"conflict":true')},
        found | {"id": "e2", "target": 3, "data": told % (4, ',"conflict":true')},
    )
    first = await world.get("/v1/events/conflicts", limit=1)
    (item,) = first["items"]
    assert (item["id"], item["counted"]["seq"], item["copy"]["seq"]) == ("e2", 3, 4)
    assert item["copy"]["data"] == {"x": "9.50"}
    second = await world.get("/v1/events/conflicts", limit=1, cursor=first["next_cursor"])
    assert [item["copy"]["seq"] for item in second["items"]] == [3]
    for cursor in ("x", "bnVs", "LTE"):
        await world.get("/v1/events/conflicts", 422, cursor=cursor)


@pytest.mark.parametrize("cursor", ["x", "!!", "MS8yLzM", "OTk5OTk5OTk5OTk5OTk5OTk5OTkvMS9uMQ"])
async def test_a_foreign_cursor_is_refused(world: World, cursor: str):
    """A cursor that no list handed out is 422 and never reaches the store."""
    if cursor == "MS8yLzM":
        assert (await world.get("/v1/events", cursor=cursor))["items"] == []
        return
    await world.get("/v1/events", status=422, cursor=cursor)


async def test_unknown_parameters_are_refused(world: World):
    """A typo would silently list everything."""
    await world.get("/v1/events", status=422, subjet="acme")
    await world.get("/v1/events", status=422, **{"from": "2026-11-01T00:00:00"})
