"""Usage of a meter over the worker's application: exact, for every aggregation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from api.application import create_app
from api.freshness import Freshness
from api.parts import Worker
from api.readers.base import Pace
from api.readers.facts import FactsReader
from api.routes.usage import build_router
from api.usage import MeterUsage
from catalog.clock import Micros
from catalog.snapshot import Catalog
from ingest.extract import specs_of
from storage.parquet.facts import ParquetFacts
from tests.catalogs import catalog_of
from tests.logs_in_memory import T0, MemoryTail, event, void

READ = {"x-tallyman-key-id": "k", "x-tallyman-scopes": "read"}
HOUR = timedelta(hours=1)


def meter(aggregation: str, **given: object) -> dict:
    """A meter of data.x with two dimensions."""
    made = {"event_type": "call", "aggregation": aggregation, "value": "data.x"}
    return made | {"dimensions": {"m": "data.m", "r": "data.r"}} | given


TREE = {
    "meters": {
        "count": {"event_type": "call", "aggregation": "count"},
        "unique": {"event_type": "call", "aggregation": "unique_count", "value": "data.x"},
        "p90": meter("percentile", percentile="90"),
        "peak": meter("max", window="1h"),
        **{name: meter(name) for name in ("sum", "min", "max", "average", "latest")},
        "weighted": meter("weighted_sum"),
    },
    "customers": {
        "acme": {"name": "Acme", "subjects": ["a1", {"subject": "a2", "until": "2026-11-02"}]},
        "beta": {"name": "Beta", "subjects": [{"subject": "a2", "from": "2026-11-02"}]},
    },
}


class World:
    """A log in memory, its facts in Parquet and memory, behind the route."""

    def __init__(self, directory: Path) -> None:
        self.tail = MemoryTail()
        self.catalog = catalog_of(TREE)
        facts = ParquetFacts(directory)
        self.reader = FactsReader(
            tails=self.tails,
            specs=lambda: specs_of(self.catalog),
            facts=facts,
            pace=Pace(poll_s=0.005),
        )
        freshness = Freshness(
            watermark_tails=self.tails, positions=self.reader, heartbeats=self.heartbeats
        )
        usage = MeterUsage(catalogs=self, source=facts, freshness=freshness)
        worker = Worker(socket=Path("unused"), routers=(build_router(usage=usage),))
        self.app = create_app(worker, version="test")

    def tails(self) -> dict:
        """The one log, by node."""
        return {self.tail.node: self.tail}

    async def heartbeats(self) -> None:
        """The log is in memory: its last record is as good as a heartbeat."""

    def current(self) -> Catalog:
        """The catalog of the test."""
        return self.catalog

    def as_of(self, recorded_at: Micros) -> Catalog:
        """The same catalog at any instant."""
        return self.catalog

    async def usage(self, name: str, status: int = 200, **params: object) -> list[dict]:
        """The rows of an answer; the answer is kept."""
        answer = await self.client.get(
            f"/v1/meters/{name}/usage", params=params or None, headers=READ
        )
        assert status == answer.status_code, answer.text
        self.answer = answer.json()
        return self.answer.get("items", [])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh world whose reader runs."""
    made = World(tmp_path)
    made.reader.start()
    transport = httpx.ASGITransport(app=made.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        made.client = client
        yield made
    made.reader.stop()


def call(x: object, *, at: datetime = T0, subject: str = "a1", m="k", r="eu") -> dict:
    """One event of a subject with a value and two dimensions."""
    return event(f'{{"x":{x},"m":"{m}","r":"{r}"}}', time=at, subject=subject)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("count", "4"),
        ("sum", "100000000000000003.333333332"),
        ("min", "0.000000001"),
        ("max", "99999999999999999.999999999"),
        ("average", "25000000000000000.833333333"),
        ("latest", "2"),
        ("unique", "4"),
        ("p90", "99999999999999999.999999999"),
    ],
)
async def test_every_aggregation_is_exact(world: World, name: str, expected: str):
    """No digit is lost, and a division is rounded once to nine decimals."""
    values = ['"99999999999999999.999999999"', "1.333333332", '"0.000000001"']
    world.tail.append(*(call(x, at=T0 + n * HOUR) for n, x in enumerate(values)))
    world.tail.append(call("2", at=T0 + 9 * HOUR, subject="nobody"))
    assert [{"value": expected}] == await world.usage(name)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("sum", [{"value": "0"}]), ("count", [{"value": "0"}]), ("max", [{"value": None}])],
)
async def test_nothing_used_is_still_one_row(world: World, name: str, rows: list):
    """Without window and groups there is always one row; only sums and counts are 0."""
    assert rows == await world.usage(name)
    assert await world.usage(name, window="1d") == []


async def test_a_read_sees_what_was_acknowledged_before(world: World):
    """Every answer waits for its facts; a void counts from then on."""
    for n in range(1, 4):
        world.tail.append(call(n))
        assert [{"value": str(n)}] == await world.usage("count")
    world.tail.append(void(1))
    assert await world.usage("sum") == [{"value": "5"}]


async def test_an_earlier_as_of_answers_as_then(world: World):
    """What was received later is not in it; a later one than the watermark is refused."""
    world.tail.append(call(1), call(2))
    await world.usage("sum")
    then = world.answer["as_of"]
    world.tail.append(call(3), void(1))
    assert await world.usage("sum", as_of=then) == [{"value": "3"}]
    await world.usage("sum", status=422, as_of="2090-01-01T00:00:00Z")
    assert world.answer["code"] == "as_of_in_future"


async def test_groups_by_customer_subject_and_dimensions(world: World):
    """A subject's customer is the one who claims it at the event's time; nobody is null."""
    second = datetime(2026, 11, 2, tzinfo=UTC)
    world.tail.append(
        call(1, subject="a1"),
        call(2, subject="a2", at=second - timedelta(microseconds=1)),
        call(4, subject="a2", at=second, m="z"),
        call(8, subject="ghost"),
    )
    assert await world.usage("sum", group_by="customer") == [
        {"customer": "acme", "value": "3"},
        {"customer": "beta", "value": "4"},
        {"customer": None, "value": "8"},
    ]
    assert await world.usage("sum", group_by=["customer,subject", "m"]) == [
        {"customer": "acme", "subject": "a1", "dimensions": {"m": "k"}, "value": "1"},
        {"customer": "acme", "subject": "a2", "dimensions": {"m": "k"}, "value": "2"},
        {"customer": "beta", "subject": "a2", "dimensions": {"m": "z"}, "value": "4"},
        {"customer": None, "subject": "ghost", "dimensions": {"m": "k"}, "value": "8"},
    ]
    assert await world.usage("sum", customer="acme") == [{"value": "3"}]
    assert await world.usage("max", customer="beta") == [{"value": "4"}]


async def test_event_time_is_bounded_half_open(world: World):
    """From is inclusive, to is exclusive."""
    world.tail.append(*(call(10**n, at=T0 + n * HOUR) for n in range(4)))
    bounds = {"from": (T0 + HOUR).isoformat(), "to": (T0 + 3 * HOUR).isoformat()}
    assert await world.usage("sum", **bounds) == [{"value": "110"}]


async def test_windows_follow_the_time_zone(world: World):
    """Local days, also those of 23 and 25 hours; hours stay hours."""
    night = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Berlin, before a day of 25 h
    world.tail.append(call(1, at=night - HOUR), call(2, at=night), call(4, at=night + 24 * HOUR))
    world.tail.append(call(8, at=night + 25 * HOUR))
    rows = await world.usage("sum", window="1d", timezone="Europe/Berlin")
    assert [tuple(row.values()) for row in rows] == [
        ("2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "1"),
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "6"),
        ("2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", "8"),
    ]
    rows = await world.usage("count", window="6h", timezone="Europe/Berlin")
    starts = [row["window_start"] for row in rows]
    ends = [row["window_end"] for row in rows]
    assert starts[:3] == ["2026-10-24T16:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T17:00:00Z"]
    assert ends[:3] == ["2026-10-24T22:00:00Z", "2026-10-25T05:00:00Z", "2026-10-25T23:00:00Z"]


async def test_a_meters_own_window_sums_first(world: World):
    """A maximum with a window of an hour is the busiest hour, not the largest event."""
    world.tail.append(call(5), call(4, at=T0 + HOUR), call(3, at=T0 + HOUR + timedelta(minutes=5)))
    assert await world.usage("peak") == [{"value": "7"}]
    assert await world.usage("max") == [{"value": "5"}]


NOVEMBER = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


async def test_a_level_is_averaged_over_the_time_asked_for(world: World):
    """It is carried over from before, until the end of the stretch; of nothing it is 0."""
    assert await world.usage("weighted", **NOVEMBER) == [{"value": "0"}]
    first = datetime(2026, 11, 1, tzinfo=UTC)
    world.tail.append(
        call(30, at=first - 40 * 24 * HOUR),
        call(-10, at=first + 10 * 24 * HOUR),
        call(7, at=first + 30 * 24 * HOUR),
    )
    assert await world.usage("weighted", **NOVEMBER) == [{"value": "23.333333333"}]
    days = {"from": "2026-11-10T12:00:00Z", "to": "2026-11-12T00:00:00Z", "window": "1d"}
    assert await world.usage("weighted", **days) == [
        {"window_start": f"2026-11-{day}T00:00:00Z", "window_end": f"2026-11-{day + 1}T00:00:00Z"}
        | {"value": value}
        for day, value in ((10, "30"), (11, "20"))
    ]
    later = {"from": "2026-12-01T00:00:00Z", "to": "2026-12-02T00:00:00Z"}
    assert await world.usage("weighted", **later) == [{"value": "27"}]


async def test_a_level_goes_with_who_has_the_subject(world: World):
    """What acme stored on a2 is beta's from 2 November on; nobody has a9."""
    first = datetime(2026, 11, 1, tzinfo=UTC)
    world.tail.append(call(30, at=first, subject="a2"), call(60, at=first, subject="a9"))
    assert await world.usage("weighted", **NOVEMBER, customer="acme") == [{"value": "1"}]
    assert await world.usage("weighted", **NOVEMBER, customer="beta") == [{"value": "29"}]
    rows = await world.usage("weighted", **NOVEMBER, group_by="customer")
    assert [tuple(row.values()) for row in rows] == [("acme", "1"), ("beta", "29"), (None, "60")]
    rows = await world.usage("weighted", **NOVEMBER, group_by="subject")
    assert [tuple(row.values()) for row in rows] == [("a2", "30"), ("a9", "60")]


async def test_pages_are_of_one_moment(world: World):
    """The second page continues the first, whatever was received in between."""
    world.tail.append(*(call(1, subject=f"s{n}") for n in range(5)))
    first = await world.usage("sum", group_by="subject", limit=3)
    cursor = world.answer["next_cursor"]
    world.tail.append(call(1, subject="s0"), call(1, subject="a-first"))
    second = await world.usage("sum", group_by="subject", limit=3, cursor=cursor)
    assert [f"s{n}" for n in range(5)] == [row["subject"] for row in [*first, *second]]
    assert world.answer["next_cursor"] is None


@pytest.mark.parametrize(
    ("name", "params", "status", "code"),
    [
        ("nope", {}, 404, "not_found"),
        ("sum", {"customer": "nope"}, 404, "not_found"),
        ("sum", {"group_by": "nope"}, 422, "invalid_request"),
        ("sum", {"window": "7m"}, 422, "invalid_duration"),
        ("sum", {"timezone": "Mars/Base"}, 422, "invalid_request"),
        ("sum", {"cursor": "eA"}, 422, "invalid_request"),
        ("sum", {"form": "x"}, 422, "unknown_parameter"),
        ("weighted", {}, 422, "invalid_request"),
        ("weighted", {"from": "2026-11-01T00:00:00Z"}, 422, "invalid_request"),
        (
            "weighted",
            {"from": "2026-11-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"},
            422,
            "invalid_request",
        ),
        (
            "weighted",
            {"from": "2000-01-01T00:00:00Z", "to": "2026-11-01T00:00:00Z", "window": "1m"},
            422,
            "too_many_windows",
        ),
    ],
)
async def test_what_cannot_be_answered_says_why(
    world: World, name: str, params: dict, status: int, code: str
):
    """Unknown meters, customers, dimensions, windows and zones are named, never guessed."""
    await world.usage(name, status=status, **params)
    assert code == world.answer["code"]
