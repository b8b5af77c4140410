"""What any IdentityIndex answers; the one on disk also across restarts, merges and lost files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from catalog.clock import FixedClock, Micros
from catalog.ids import Seq
from ingest.batch import to_records
from ingest.identity import Identities, identify
from ingest.ports import IdentityIndex
from storage.log.identity_index import DAY_US, DiskIdentityIndex, IndexLimits
from storage.memory.files import PowerCut, SimFiles
from storage.memory.log import MemoryIdentityIndex, MemoryLog
from tests.log_samples import NODE, T0_US, events, identified, void

INDEX = Path("/log/index")
LIMITS = IndexLimits(table_rows=16, backlog_max=3)


def on_disk(log: MemoryLog, files: SimFiles, *, window_days: int = 35) -> DiskIdentityIndex:
    """An index with tiny tables, so that a few identities reach every part of it."""
    return DiskIdentityIndex.open(
        INDEX, log, window_days=window_days, files=files, limits=LIMITS, background=False
    )


OPENERS: dict[str, Callable[[], IdentityIndex]] = {
    "memory": MemoryIdentityIndex,
    "disk": lambda: on_disk(MemoryLog(NODE, FixedClock(T0_US)), SimFiles()),
}


@pytest.fixture(params=OPENERS)
def index(request: pytest.FixtureRequest) -> IdentityIndex:
    """An empty index."""
    return OPENERS[request.param]()


def batch(index: IdentityIndex, *rows: tuple[str, str, int]) -> Identities:
    """Identities with their contents."""
    source, id_, content = zip(*rows, strict=True)
    halves = identify(pa.array(source), pa.array(id_), key=index.key)
    return Identities(*halves, np.array(content, np.uint64))


def numbered(index: IdentityIndex, start: int, stop: int) -> Identities:
    """The identities of the events numbered so."""
    return batch(index, *(("gateway", f"request-{i}", i) for i in range(start, stop)))


def test_a_new_identity_has_no_seq(index: IdentityIndex) -> None:
    """Zero is no record's seq."""
    probed = index.probe(numbered(index, 0, 3))
    assert probed.seq.tolist() == [0, 0, 0]
    assert probed.same.tolist() == [False, False, False]


def test_a_copy_is_found_with_its_first_seq(index: IdentityIndex) -> None:
    """And it is the same only when the content's digest is."""
    index.insert(numbered(index, 0, 3), first_seq=Seq(7), received_at=Micros(T0_US))
    probed = index.probe(
        batch(
            index,
            ("gateway", "request-2", 2),
            ("gateway", "request-1", 99),
            ("gateway", "other", 1),
        )
    )
    assert probed.seq.tolist() == [9, 8, 0]
    assert probed.same.tolist() == [True, False, False]


def test_source_and_id_do_not_run_into_each_other(index: IdentityIndex) -> None:
    """("ab", "c") and ("a", "bc") are two identities, and so are mirror images."""
    index.insert(batch(index, ("ab", "c", 1)), first_seq=Seq(1), received_at=Micros(T0_US))
    others = batch(
        index, ("a", "bc", 1), ("c", "ab", 1), ("abc", "", 1), ("", "abc", 1), ("ab", "C", 1)
    )
    assert index.probe(others).seq.tolist() == [0] * 5


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 500, 9_000])
def test_batches_of_every_size_are_found_again(index: IdentityIndex, rows: int) -> None:
    """Within a table, over its edge, over many, and past a chunk of the vector code."""
    index.insert(numbered(index, 0, rows), first_seq=Seq(1), received_at=Micros(T0_US))
    probed = index.probe(numbered(index, 0, rows + 50))
    assert probed.seq.tolist() == [*range(1, rows + 1), *[0] * 50]
    assert probed.same[:rows].all()


def test_void_marks_are_by_seq_and_idempotent(index: IdentityIndex) -> None:
    """A void identity stays known: a resend of it is a copy."""
    index.insert(numbered(index, 0, 3), first_seq=Seq(1), received_at=Micros(T0_US))
    index.void([2])
    index.void([2])
    assert index.is_void([1, 2, 3]) == [False, True, False]
    assert index.probe(numbered(index, 1, 2)).seq.tolist() == [2]


class IndexMachine(RuleBasedStateMachine):
    """The index on disk beside a dictionary, as a gateway uses it: probe, append, insert."""

    @initialize()
    def begin(self) -> None:
        """Open an empty index."""
        self.clock = FixedClock(T0_US)
        self.log = MemoryLog(NODE, self.clock)
        self.files = SimFiles()
        self.index = on_disk(self.log, self.files)
        self.model = MemoryIdentityIndex()

    @rule(start=st.integers(0, 300), count=st.integers(1, 60), content=st.integers(0, 2))
    def submit(self, start: int, count: int, content: int) -> None:
        """Probe a group, append and insert what is new of it."""
        group = events(count, start=start, data=f'{{"x":{content}}}')
        probed = self.index.probe(identified(self.index, group))
        expected = self.model.probe(identified(self.model, group))
        assert probed.seq.tolist() == expected.seq.tolist()
        assert probed.same.tolist() == expected.same.tolist()
        fresh = np.flatnonzero(probed.seq == 0).tolist()
        if fresh:
            appended = self.log.append(to_records(group[fresh]))
            self.log.sync()
            for index in (self.index, self.model):
                index.insert(
                    identified(index, group[fresh]),
                    first_seq=appended.first_seq,
                    received_at=appended.received_at,
                )

    @precondition(lambda self: self.log.next_seq > 1)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """Void a record."""
        seq = data.draw(st.integers(1, self.log.next_seq - 1))
        self.log.append(to_records(void(seq, id="any")))
        self.log.sync()
        self.index.void([seq])
        self.model.void([seq])

    @rule()
    def maintain(self) -> None:
        """Write, expire and merge."""
        self.index.maintain()

    @rule(starts=st.lists(st.integers(0, 300), max_size=12), count=st.integers(1, 16))
    def maintain_while_groups_come_in(self, starts: list[int], count: int) -> None:
        """As its own thread does it, slice by slice."""

        def rest() -> None:
            if starts and len(self.index._older.frozen) < LIMITS.backlog_max:
                self.submit(starts.pop(), count, 1)

        self.index._maintain(rest)

    @rule(power_cut=st.booleans(), flush=st.booleans())
    def restart(self, power_cut: bool, flush: bool) -> None:
        """Open it again after a kill or a power cut."""
        if flush:
            self.index.maintain()
        self.files.restart(power_cut=power_cut)
        self.index = on_disk(self.log, self.files)

    @rule(number=st.integers(0, 9), place=st.integers(0, 10**6))
    def lose_a_file(self, number: int, place: int) -> None:
        """Flip a bit of one of its files, then open it again."""
        names = sorted(self.files.names(INDEX))
        if names:
            path = INDEX / names[number % len(names)]
            content = bytearray(self.files.read(path))
            content[place % len(content)] ^= 1
            self.files.overwrite(path, bytes(content))
            self.index = on_disk(self.log, self.files)

    @rule()
    def compare_everything(self) -> None:
        """Ask about everything there could be."""
        found, expected = (
            index.probe(identified(index, events(360))).seq.tolist()
            for index in (self.index, self.model)
        )
        assert found == expected
        seqs = range(1, self.log.next_seq)
        assert self.index.is_void(seqs) == self.model.is_void(seqs)


IndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestIndexAgainstADictionary = pytest.mark.slow(IndexMachine.TestCase)


def fill(log: MemoryLog, index: DiskIdentityIndex, start: int, stop: int) -> None:
    """Append and insert events, as a gateway would."""
    group = events(stop - start, start=start)
    appended = log.append(to_records(group))
    log.sync()
    index.insert(
        identified(index, group), first_seq=appended.first_seq, received_at=appended.received_at
    )


def test_identities_leave_with_the_window_and_not_before() -> None:
    """What is younger than the window is always found; what is much older is dropped."""
    clock, files = FixedClock(T0_US), SimFiles()
    log = MemoryLog(NODE, clock)
    index = on_disk(log, files, window_days=8)
    for day in range(40):
        clock.set(T0_US + day * DAY_US)
        fill(log, index, 20 * day, 20 * day + 20)
        index.maintain()
        young = index.probe(
            identified(index, events(20 * min(day + 1, 8), start=20 * max(0, day - 7)))
        )
        assert (young.seq > 0).all()
        old = index.probe(identified(index, events(20 * max(0, day - 12))))
        assert (old.seq == 0).all()
    again = on_disk(log, files, window_days=8)
    assert (again.probe(identified(again, events(160, start=640))).seq > 0).all()
    assert len(files.names(INDEX)) < 16


def test_a_longer_window_reads_the_log_again() -> None:
    """A checkpoint kept for a shorter one lacks what the longer one needs."""
    clock, files = FixedClock(T0_US), SimFiles()
    log = MemoryLog(NODE, clock)
    index = on_disk(log, files, window_days=1)
    for day in range(6):
        clock.set(T0_US + day * DAY_US)
        fill(log, index, 20 * day, 20 * day + 20)
        index.maintain()
    assert (index.probe(identified(index, events(20))).seq == 0).all()
    longer = on_disk(log, files, window_days=10)
    assert (longer.probe(identified(longer, events(120))).seq > 0).all()


def test_another_format_means_reading_the_log_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hashes may differ, so none of it is believed."""
    files, log = SimFiles(), MemoryLog(NODE, FixedClock(T0_US))
    index = on_disk(log, files)
    fill(log, index, 0, 100)
    index.maintain()
    checkpoint = files.read(INDEX / "checkpoint")
    again = on_disk(log, files)
    assert again.probe(identified(again, events(100))).seq.all()
    assert files.read(INDEX / "checkpoint") == checkpoint
    with monkeypatch.context() as patch:
        patch.setattr("storage.log.identity.checkpoint.CHECKPOINT_VERSION", 99)
        again = on_disk(log, files)
        again.maintain()
        assert (again.probe(identified(again, events(100))).seq == np.arange(1, 101)).all()
        assert b'"format": 99' in files.read(INDEX / "checkpoint")


def test_a_crash_in_any_call_of_maintenance_loses_no_identity() -> None:
    """Runs are written, merged and dropped; the checkpoint always names what is there."""
    call, finished = 0, False
    while not finished:
        call += 1
        files, log = SimFiles(call), MemoryLog(NODE, FixedClock(T0_US))
        index = on_disk(log, files)
        files.cut_at(call)
        with contextlib.suppress(PowerCut):
            for part in range(6):
                fill(log, index, 20 * part, 20 * part + 20)
                index.void([1])
                index.maintain()
            finished = True
        log.append(to_records(void(1, id="request-0")))
        log.sync()
        files.restart(power_cut=call % 2 == 0)
        again = on_disk(log, files)
        known = again.probe(identified(again, events(120))).seq
        assert np.flatnonzero(known == 0).size == 121 - (log.next_seq - 1)
        assert again.is_void([1, 2]) == [True, False]
    assert call > 40


def test_what_comes_in_during_a_merge_does_not_wait_for_its_end() -> None:
    """Tables are written and short runs merged between the slices of a longer merge."""
    files, log = SimFiles(), MemoryLog(NODE, FixedClock(T0_US))
    index = on_disk(log, files)
    fill(log, index, 0, 64)
    count, deepest = 64, 0

    def rest() -> None:
        nonlocal count, deepest
        partial = [name for name in files.names(INDEX) if name.endswith(".partial")]
        deepest = max(deepest, len(partial))
        if count < 1_600 and not index._older.frozen:
            fill(log, index, count, count + 64)
            count += 64

    index._maintain(rest)
    assert deepest > 2
    assert not index._older.frozen
    assert len(index._older.runs.runs) < 10
    for opened in (index, on_disk(log, files)):
        assert opened.probe(identified(opened, events(count))).seq.all()
    assert {run.covers.name for run in index._older.runs.runs} < set(files.names(INDEX))


def test_it_stays_small_on_disk(tmp_path: Path) -> None:
    """At most 32 bytes an identity, filters and all; and the background thread merges."""
    log = MemoryLog(NODE, FixedClock(T0_US))
    limits = IndexLimits(table_rows=4_096)
    index = DiskIdentityIndex.open(tmp_path, log, limits=limits)
    count = 100_000
    for start in range(0, count, 5_000):
        identities = numbered(index, start, start + 5_000)
        index.insert(identities, first_seq=Seq(start + 1), received_at=Micros(T0_US + start))
    index.maintain()
    index.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size <= 32 * count
    assert len(list(tmp_path.glob("run-*"))) < 10
    probed = index.probe(numbered(index, 0, count + 1_000))
    assert (probed.seq[:count] == np.arange(1, count + 1)).all()
    assert not probed.seq[count:].any()
