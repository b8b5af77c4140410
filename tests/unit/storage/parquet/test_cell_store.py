"""Cells come to what the facts come to: at every instant, whatever was voided, late or cut."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.clock import Micros, to_micros
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, Seq, SpecId
from rating.cuts import Calendar, Cuts
from rating.ports import SPANS
from storage.memory.facts import MemoryFactSource
from storage.parquet.cells import source
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

SPEC = SpecId("s")
T0 = datetime(2026, 3, 27, tzinfo=UTC)
NODES = ("n1", "n2")
READERS = "compensations"
LOGS = (*NODES, READERS)
SUBJECTS = ("a", "b", "c")
ZONES = ("UTC", "America/New_York", "Europe/Berlin")
HOUR = timedelta(hours=1)

MANY = settings(
    max_examples=60, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture(autouse=True, params=["looked up", "running sums"])
def way(request, monkeypatch):
    """Questions about few subjects look cells up; the same ones as if they were about many."""
    if request.param == "running sums":
        monkeypatch.setattr(source, "few", lambda _: False)


hours = st.integers(0, 24 * 9)
instants = st.one_of(
    hours.map(lambda h: T0 + h * HOUR),
    st.integers(0, 9 * 86_400).map(lambda s: T0 + timedelta(seconds=s)),
    st.integers(0, 9).map(lambda d: T0 + timedelta(days=d)),
)
values = st.one_of(
    st.none(),
    st.integers(-5, 5).map(Decimal),
    st.integers(-(10**25), 10**25).map(lambda n: Decimal(n).scaleb(-9)),
)


@dataclass
class World:
    """Facts and compensations in the order they were received, and where nodes were sealed."""

    facts: list[dict] = field(default_factory=list)
    voids: list[dict] = field(default_factory=list)
    seals: list[tuple[str, int]] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOGS, 0))
    clock: int = 0

    def received(self) -> datetime:
        """The next instant of receipt."""
        self.clock += 1
        return T0 + timedelta(days=1, minutes=self.clock)

    def event(self, node: str, subject: str, time: datetime, value: object, group: str) -> None:
        """One more fact."""
        self.last[node] += 1
        self.facts.append(
            {
                "node": node, "seq": self.last[node], "spec": SPEC, "subject": subject,
                "time": time, "received_at": self.received(), "value": value, "text": None,
                "dimensions": group,
            }
        )  # fmt: skip

    def void(self, node: str, target: int, cause: str) -> None:
        """One more compensation of an event of the node, perhaps not its first."""
        mine = [f["seq"] for f in self.facts if f["node"] == node]
        if mine:
            self.last[node] += 1
            self.voids.append(
                {
                    "node": node, "seq": self.last[node], "received_at": self.received(),
                    "target_node": node, "target_seq": mine[target % len(mine)], "cause": cause,
                }
            )  # fmt: skip

    def copied(self, target: int, since: float) -> None:
        """Readers find any event to be a copy, or void: from an instant on that may be past."""
        if self.facts:
            fact = self.facts[target % len(self.facts)]
            self.last[READERS] += 1
            late = (self.received() - fact["received_at"]) * since
            self.voids.append(
                {
                    "node": READERS, "seq": self.last[READERS],
                    "received_at": fact["received_at"] + late,
                    "target_node": fact["node"], "target_seq": fact["seq"], "cause": "collapsed",
                }
            )  # fmt: skip

    def seal(self, node: str) -> None:
        """All of the node's log so far is one segment."""
        self.seals.append((node, self.last[node]))


actions = st.one_of(
    st.tuples(
        st.just("event"), st.sampled_from(NODES), st.sampled_from(SUBJECTS), instants, values,
        st.sampled_from(["{}", '{"m":"x"}']),
    ),
    st.tuples(
        st.just("void"), st.sampled_from(NODES), st.integers(0, 99),
        st.sampled_from(["void", "collapsed"]),
    ),
    st.tuples(st.just("copied"), st.integers(0, 99), st.sampled_from([0, 0.5, 1])),
    st.tuples(st.just("seal"), st.sampled_from(LOGS)),
)  # fmt: skip


@st.composite
def worlds(draw) -> World:
    """Histories of up to 60 records, in segments of a few each."""
    world = World()
    for name, *given_ in draw(st.lists(actions, min_size=1, max_size=60)):
        getattr(world, name)(*given_)
    return world


@st.composite
def span_frames(draw) -> pl.DataFrame:
    """SPANS: aligned with days and not, of one subject and of anyone."""
    rows = []
    for number in draw(st.lists(st.integers(0, 3), min_size=1, max_size=5)):
        start, end = sorted(draw(st.tuples(instants, instants)))
        subject = draw(st.sampled_from([*SUBJECTS, None]))
        if all(row[0] != number for row in rows):
            rows.append((number, SPEC, subject, start, end))
    return pl.DataFrame(rows, schema=SPANS, orient="row")


calendars = st.builds(
    Calendar,
    st.sets(st.sampled_from(ZONES), min_size=1).map(frozenset),
    st.lists(instants.map(to_micros), max_size=3).map(lambda found: tuple(sorted(set(found)))),
)
cut_lists = st.lists(
    st.builds(
        lambda by, common: Cuts(by_subject=by, common=common),
        st.dictionaries(st.sampled_from(SUBJECTS), calendars), calendars,
    ), min_size=1, max_size=3,
)  # fmt: skip


def stored(directory: Path, world: World) -> ParquetFacts:
    """The world as the facts reader leaves it: sealed segments as files, the rest in memory."""
    store = ParquetFacts(directory / "facts")
    rows = {SPEC: pl.DataFrame(world.facts, FACTS), VOIDS_KEY: pl.DataFrame(world.voids, VOIDS)}
    for node in LOGS:
        for key, whole in rows.items():
            own, place = whole.filter(pl.col("node") == node), 0
            for _, last in [s for s in world.seals if s[0] == node and s[1]]:
                if last > place:
                    part = own.filter(pl.col("seq").is_between(place + 1, last))
                    store.seal(key, NodeId(node), last=Seq(last), rows=part)
                    place = last
            tail = own.filter(pl.col("seq") > place)
            store.extend(key, NodeId(node), last=Seq(world.last[node]), rows=tail)
    return store


def rolled_up(directory: Path, facts: ParquetFacts, cuts: Iterator[Cuts]) -> ParquetCells:
    """Cells of all that is sealed, long runs too, under cuts that change on the way."""
    cells = ParquetCells(directory / "cells", facts)
    for node in map(NodeId, LOGS):
        while (file := cells.due(SPEC, node)) is not None:
            cells.extend(SPEC, file, next(cuts))
            while cells.merge(SPEC, node) is not None:
                pass
    return cells


def in_turn(cuts: list[Cuts]) -> Iterator[Cuts]:
    """Each of ``cuts`` again and again."""
    while True:
        yield from cuts


def moments(world: World) -> list[Micros]:
    """Every instant of receipt, and the ones before and after all."""
    found = {to_micros(r["received_at"]) for r in (*world.facts, *world.voids)}
    return [Micros(0), *map(Micros, sorted(found)), Micros(4 * 10**15)]


def rows_of(frame: pl.DataFrame) -> set[tuple]:
    """A frame as a set of rows."""
    found = set(frame.rows())
    assert len(found) == frame.height
    return found


@pytest.mark.slow
@MANY
@given(world=worlds(), spans=span_frames(), cuts=cut_lists, data=st.data())
def test_cells_and_facts_and_the_reference_agree_at_every_instant(world, spans, cuts, data):
    """Sums of any spans, as of any instant, are the same rows from all three."""
    facts = pl.DataFrame(world.facts, FACTS)
    reference = MemoryFactSource(facts, pl.DataFrame(world.voids, VOIDS))
    with tempfile.TemporaryDirectory() as name:
        plain = stored(Path(name), world)
        cells = rolled_up(Path(name), plain, in_turn(cuts))
        source = CellSource(cells, plain, lambda: data.draw(st.sampled_from(cuts)))
        asked = st.lists(st.sampled_from(moments(world)), min_size=3, max_size=6)
        for as_of in data.draw(asked):  # in any order: running sums go on, or are passed over
            expected = rows_of(reference.sums(spans, as_of=as_of))
            assert rows_of(plain.sums(spans, as_of=as_of)) == expected
            assert rows_of(source.sums(spans, as_of=as_of)) == expected
            extremes = rows_of(reference.extremes(spans, as_of=as_of))
            assert rows_of(plain.extremes(spans, as_of=as_of)) == extremes
            assert rows_of(source.extremes(spans, as_of=as_of)) == extremes
        again = CellSource(ParquetCells(Path(name) / "cells", plain), plain, lambda: cuts[0])
        assert rows_of(again.sums(spans, as_of=as_of)) == expected


@pytest.mark.slow
@MANY
@given(
    before=st.lists(actions, max_size=20), cuts=cut_lists, spans=span_frames(),
    later=st.lists(st.lists(actions, min_size=1, max_size=8), min_size=1, max_size=5),
    data=st.data(),
)  # fmt: skip
def test_what_comes_in_between_questions_is_added_to_what_was_there(
    before, later, spans, cuts, data
):
    """The same spans are asked for again and again while events and compensations come in."""
    world = World()
    for name, *given_ in before:
        getattr(world, name)(*given_)
    with tempfile.TemporaryDirectory() as directory:
        plain = stored(Path(directory), world)
        cells = rolled_up(Path(directory), plain, in_turn(cuts))
        source = CellSource(cells, plain, lambda: cuts[0])
        for step in later:
            held = len(world.facts), len(world.voids)
            for name, *given_ in step:
                getattr(world, name)(*given_)
            receive(plain, world, held)
            found = (pl.DataFrame(world.facts, FACTS), pl.DataFrame(world.voids, VOIDS))
            reference = MemoryFactSource(*found)
            asked = [moments(world)[-1], data.draw(st.sampled_from(moments(world)))]
            for as_of in data.draw(st.permutations(asked)):
                expected = rows_of(reference.extremes(spans, as_of=as_of))
                assert rows_of(source.extremes(spans, as_of=as_of)) == expected
                sums = rows_of(reference.sums(spans, as_of=as_of))
                assert rows_of(source.sums(spans, as_of=as_of)) == sums


def receive(store: ParquetFacts, world: World, held: tuple[int, int]) -> None:
    """Take what came after the first ``held`` facts and compensations into memory."""
    new = {SPEC: (world.facts[held[0] :], FACTS), VOIDS_KEY: (world.voids[held[1] :], VOIDS)}
    for key, (rows, schema) in new.items():
        whole = pl.DataFrame(rows, schema)
        for node in LOGS:
            own = whole.filter(pl.col("node") == node)
            store.extend(key, NodeId(node), last=Seq(world.last[node]), rows=own)


def test_what_was_asked_in_the_middle_of_a_rebuild_is_not_gone_on_with(tmp_path: Path):
    """Facts were read again and their compensations not yet: later answers have them."""
    world = World()
    for number in range(3):
        world.event("n1", "a", T0 + number * HOUR, Decimal(number + 1), "{}")
    world.void("n1", 1, "void")
    world.event("n1", "a", T0 + 3 * HOUR, Decimal(8), "{}")
    found = pl.DataFrame(world.facts, FACTS), pl.DataFrame(world.voids, VOIDS)
    facts, node, last = ParquetFacts(tmp_path / "facts"), NodeId("n1"), Seq(world.last["n1"])
    source = CellSource(ParquetCells(tmp_path / "cells", facts), facts, Cuts)
    spans = pl.DataFrame([(0, SPEC, "a", T0, T0 + 24 * HOUR)], schema=SPANS, orient="row")
    as_of = moments(world)[-1]
    facts.extend(SPEC, node, last=last, rows=found[0])
    source.sums(spans, as_of=as_of)
    facts.extend(VOIDS_KEY, node, last=last, rows=found[1])
    expected = rows_of(MemoryFactSource(*found).sums(spans, as_of=as_of))
    assert rows_of(source.sums(spans, as_of=as_of)) == expected


def many_segments() -> World:
    """A history of 20 segments, an event each, in which every third takes back an earlier one."""
    world = World()
    for number in range(20):
        world.event("n1", "a", T0 + number * HOUR, Decimal(number), "{}")
        if number % 3 == 2:
            world.void("n1", number - 2, "void")
        world.seal("n1")
    return world


def test_eight_runs_make_a_longer_one_and_a_prefix_is_few(tmp_path: Path):
    """20 segments are two long runs and four short; all are still there for an earlier instant."""
    world = many_segments()
    facts = stored(tmp_path, world)
    cells = rolled_up(tmp_path, facts, in_turn([Cuts()]))
    pile = cells.pile(SPEC, NodeId("n1"))
    assert len(pile.cover(4 * 10**15)) == 2 + 4
    assert len(pile.shortest) == 20
    early = pile.cover(pile.shortest[10].until)
    assert [run.last for run in early][-1] == pile.shortest[10].last
    assert len(early) == 1 + 3
