"""Whole readings: an answer is of facts that nobody dropped since they were waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from api.freshness import Freshness, ReadersBehind
from api.readers.base import Pace
from api.readers.cells import CellsReader, KeptCuts
from api.readers.clickhouse import ClickHouseReader
from api.readers.facts import FactsReader
from api.whole import Whole, WholeArrivals, WholeEvents, WholeFacts
from catalog.clock import Micros
from catalog.events import FACTS
from catalog.ids import NodeId
from catalog.snapshot import Catalog
from invoicing.ports import Arrived
from rating.ports import SPANS, FactSource
from storage.arrivals import parquet_arrivals
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.events import ClickHouseEvents, EventQuery
from storage.clickhouse.facts import ClickHouseFacts
from storage.clickhouse.store import ClickHouseStore
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import ParquetFacts
from tests.clickhouse_front import front
from tests.logs_in_memory import T0, MemoryTail, event, spec, specs

SPEC, LATER = spec(), spec(None)
EVENTS = 40
SPANNED = pl.DataFrame(
    [(1, SPEC.id, None, T0 - timedelta(days=1), T0 + timedelta(days=1))],
    schema=SPANS,
    orient="row",
)
ROUNDS = 12


async def no_heartbeats() -> None:
    """The log of a test stands still."""


class Setting:
    """Facts of one log, half of it sealed, and who asks for them as the worker wires it."""

    def __init__(self, directory: Path) -> None:
        self.tail = MemoryTail()
        self.tail.append(*(event() for _ in range(EVENTS // 2)))
        self.tail.seal()
        self.tail.append(*(event() for _ in range(EVENTS // 2)))
        self.tails = {NodeId(self.tail.node): self.tail}
        self.specs = specs(SPEC)
        self.facts = ParquetFacts(directory / "facts")
        given = {"tails": lambda: self.tails, "specs": lambda: self.specs, "facts": self.facts}
        self.reader = FactsReader(**given, pace=Pace(rows_max=7))
        cells = ParquetCells(directory / "cells", self.facts)
        cuts = KeptCuts(lambda: Catalog(revision=1))
        self.cells_reader = CellsReader(**given, cells=cells, cuts=cuts)
        self.cells = CellSource(cells, self.facts, cuts.refresh)
        self.whole = Whole(self.reader, generation=lambda: self.reader.drops.generation)
        self.freshness = Freshness(
            watermark_tails=lambda: self.tails, positions=self.whole, heartbeats=no_heartbeats
        )
        self.fill()

    def fill(self) -> None:
        """Let the reader do all there is to do."""
        while self.reader.step() or self.cells_reader.step():
            pass

    def drop(self) -> None:
        """What ``tallyman rebuild facts`` does first."""
        with self.reader.paused():
            self.reader.drop()

    def settle(self) -> Micros:
        """Wait as every question does; the instant it is answered as of."""
        return asyncio.run(self.freshness.settle(None, [SPEC.id])).as_of


class Meddling:
    """Facts where something happens in the midst of every reading."""

    def __init__(self, source: FactSource, happens: Callable[[], None]) -> None:
        self._source, self._happens = source, happens

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """The sums, of what is left."""
        self._happens()
        return self._source.sums(spans, as_of=as_of)

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """The same with extremes."""
        self._happens()
        return self._source.extremes(spans, as_of=as_of)

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """The facts that are left."""
        self._happens()
        return self._source.facts(spans, as_of=as_of)


@pytest.fixture(params=["facts", "cells"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Setting, FactSource]:
    """A setting and the source that rating reads."""
    setting = Setting(tmp_path)
    return setting, setting.cells if request.param == "cells" else setting.facts


READINGS = ("sums", "extremes", "facts")


def count(source: FactSource, reading: str, as_of: Micros) -> int:
    """How many facts one way of reading counts."""
    if reading == "facts":
        return source.facts(SPANNED, as_of=as_of).collect().height
    return int(getattr(source, reading)(SPANNED, as_of=as_of)["count"].sum())


@pytest.mark.parametrize("reading", READINGS)
def test_facts_dropped_after_the_wait_are_not_read_as_none(world, reading):
    """The question waited, the facts went: it is refused, and answered once they are back."""
    setting, source = world
    whole, as_of = WholeFacts(source, setting.whole), setting.settle()
    assert count(whole, reading, as_of) == EVENTS
    setting.drop()
    with pytest.raises(ReadersBehind):
        count(whole, reading, as_of)
    setting.reader.step()
    with pytest.raises(ReadersBehind):
        count(whole, reading, as_of)
    setting.fill()
    assert count(whole, reading, as_of) == EVENTS


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("refilled", [False, True])
def test_facts_dropped_in_the_midst_of_a_reading_are_not_an_answer(world, reading, refilled):
    """Also where they are all there again at its end."""
    setting, source = world

    def meddle() -> None:
        setting.drop()
        if refilled:
            setting.fill()

    whole = WholeFacts(Meddling(source, meddle), setting.whole)
    with pytest.raises(ReadersBehind):
        count(whole, reading, setting.settle())


def test_a_reading_that_fails_says_why_unless_it_was_dropped(tmp_path: Path):
    """Files that vanish under a scan are the drop's doing; any other failure stays what it is."""
    setting = Setting(tmp_path)
    as_of = setting.settle()

    def fail() -> None:
        raise FileNotFoundError("gone")

    def drop_and_fail() -> None:
        setting.drop()
        fail()

    with pytest.raises(FileNotFoundError):
        WholeFacts(Meddling(setting.facts, fail), setting.whole).sums(SPANNED, as_of=as_of)
    with pytest.raises(ReadersBehind):
        WholeFacts(Meddling(setting.facts, drop_and_fail), setting.whole).sums(SPANNED, as_of=as_of)


def test_nothing_is_read_while_a_drop_is_under_way(tmp_path: Path):
    """Not by who waited before it, and who waits does not get past it."""
    setting = Setting(tmp_path)
    whole, as_of = WholeFacts(setting.facts, setting.whole), setting.settle()
    with setting.reader.drops.one():
        assert not setting.whole.covered([SPEC.id], as_of=as_of)
        with pytest.raises(ReadersBehind):
            whole.sums(SPANNED, as_of=as_of)
    assert count(whole, "sums", as_of) == EVENTS


def test_a_spec_forgotten_leaves_the_others_readable(tmp_path: Path):
    """Who asks after a spec was forgotten looks again how far the facts are, and is answered."""
    setting = Setting(tmp_path)
    setting.specs = specs(SPEC, LATER)
    setting.fill()
    whole, as_of = WholeFacts(setting.facts, setting.whole), setting.settle()
    setting.specs = specs(SPEC)
    setting.fill()
    assert LATER.id not in setting.facts.keys
    assert count(whole, "sums", as_of) == EVENTS


def test_more_records_after_the_wait_do_not_hold_a_question_up(tmp_path: Path):
    """What was covered stays so: the reader may fall behind what came since."""
    setting = Setting(tmp_path)
    whole, as_of = WholeFacts(setting.facts, setting.whole), setting.settle()
    setting.tail.append(event(), event())
    assert not setting.reader.covered([SPEC.id], as_of=setting.tail.durable().received_at)
    assert count(whole, "sums", as_of) == EVENTS


def test_every_answer_beside_rebuilds_is_the_whole(world):
    """Questions beside a rebuild after the other: each counts everything, or is refused."""
    setting, source = world
    whole, ended, answered = WholeFacts(source, setting.whole), threading.Event(), list[int]()

    def rebuild() -> None:
        for _ in range(ROUNDS):
            setting.drop()
            setting.fill()
            time.sleep(0.06)  # long enough for who waits to look again
        ended.set()

    rebuilding = threading.Thread(target=rebuild)
    rebuilding.start()
    while not ended.is_set():
        as_of = setting.settle()
        for reading in READINGS[:2] * 3:
            with suppress(ReadersBehind):
                answered.append(count(whole, reading, as_of))
    rebuilding.join()
    answered.append(count(whole, "sums", setting.settle()))
    assert set(answered) == {EVENTS}


def test_who_had_events_lately_is_not_told_of_dropped_facts(tmp_path: Path):
    """Else a close would miss the adjustments of everybody."""
    setting = Setting(tmp_path)
    arrivals = WholeArrivals(
        parquet_arrivals(setting.facts, specs=lambda: setting.specs),
        setting.whole,
        specs=lambda: setting.specs,
    )
    asked = Arrived(after=Micros(0), upto=setting.settle(), before=Micros(4 * 10**15))
    assert arrivals.subjects(asked) == {"acme"}
    setting.specs = specs(SPEC, LATER)  # nobody waited for this one: it may still be extracted
    assert arrivals.subjects(asked) == {"acme"}
    setting.drop()
    with pytest.raises(ReadersBehind):
        arrivals.subjects(asked)
    setting.fill()
    assert arrivals.subjects(asked) == {"acme"}


def test_clickhouse_dropped_after_the_wait_is_not_read_as_empty(tmp_path: Path):
    """Neither for look-ups, which tell a void what it names, nor for rating."""
    tail = MemoryTail()
    tail.append(*(event() for _ in range(EVENTS)))
    with front(tmp_path) as server:
        clickhouse = ClickHouse(Address(url=server.url, database="whole"))
        reader = ClickHouseReader(
            tails=lambda: {tail.node: tail},
            specs=lambda: specs(SPEC),
            store=ClickHouseStore(clickhouse),
        )
        whole = Whole(reader, generation=lambda: reader.drops.generation)
        events, facts = ClickHouseEvents(clickhouse), ClickHouseFacts(clickhouse)
        looked_up, rated = WholeEvents(events, whole), WholeFacts(facts, whole)
        while reader.step():
            pass
        as_of = tail.durable().received_at
        assert whole.covered([SPEC.id], as_of=as_of)
        assert looked_up.page(EventQuery(), limit=100).height == EVENTS
        assert count(rated, "sums", as_of) == EVENTS
        with reader.paused():
            reader.drop()
        assert events.page(EventQuery(), limit=100).is_empty()  # what was answered before
        with pytest.raises(ReadersBehind):
            looked_up.page(EventQuery(), limit=100)
        for reading in READINGS:
            with pytest.raises(ReadersBehind):
                count(rated, reading, as_of)


def test_a_fact_frame_may_be_read_after_a_drop(tmp_path: Path):
    """Facts in hand when they are dropped are all there, or their files are gone: never fewer."""
    setting = Setting(tmp_path)
    whole, as_of = WholeFacts(setting.facts, setting.whole), setting.settle()
    found = whole.facts(SPANNED, as_of=as_of)
    setting.drop()
    with pytest.raises((OSError, pl.exceptions.PolarsError)):
        found.collect()
    setting.fill()
    assert found.select(list(FACTS)).collect().height == EVENTS
