"""The facts reader: files follow segments, memory follows the tail, nothing is read twice."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from api.readers.base import Pace
from api.readers.facts import FactsReader
from catalog.clock import Micros
from rating.ports import SPANS
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from tests.logs_in_memory import T0, MemoryTail, event, heartbeat, spec, specs, void

SPEC = spec()
OTHER = spec(None)


class Setting:
    """A reader over given tails, whose catalog a test can change."""

    def __init__(self, directory: Path, *tails: MemoryTail, rows_max: int = 100) -> None:
        self.directory = directory
        self.specs = specs(SPEC)
        self.tails = {tail.node: tail for tail in tails}
        self.rows_max = rows_max
        self.restart()

    def restart(self) -> None:
        """A reader and facts opened anew."""
        self.facts = ParquetFacts(self.directory)
        self.reader = FactsReader(
            tails=lambda: self.tails,
            specs=lambda: self.specs,
            facts=self.facts,
            pace=Pace(rows_max=self.rows_max),
        )

    def settle(self) -> None:
        """Step until there is nothing to do."""
        while self.reader.step():
            pass

    def total(self, chosen=SPEC) -> tuple[Decimal, int]:
        """Sum and count of everything a spec holds."""
        row = (chosen.id, 1, None, T0 - timedelta(days=1), T0 + timedelta(days=400))
        spans = pl.DataFrame(
            [row], schema=["spec", "span", "subject", "start", "end"], orient="row"
        )
        sums = self.facts.sums(spans.select(list(SPANS)).cast(SPANS), as_of=Micros(4 * 10**15))
        return sums["sum"].sum(), sums["count"].sum()


def test_the_tail_counts_as_soon_as_it_is_read(tmp_path: Path):
    """Events of the hot file are in the sums, voids take them out, heartbeats add nothing."""
    tail = MemoryTail()
    tail.append(event('{"x":"1.5"}'), event('{"x":"2"}'), heartbeat(), void(1))
    setting = Setting(tmp_path, tail)
    setting.settle()
    assert (Decimal(2), 1) == setting.total()
    assert setting.reader.positions() == {"n1": 4}


def test_a_sealed_segment_becomes_one_file_and_leaves_memory(tmp_path: Path):
    """The file is named by the segment, the tail before it is dropped, the sum stays."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail)
    tail.append(event(), event())
    setting.settle()
    tail.seal()
    tail.append(event())
    setting.settle()
    state = setting.facts.state(SPEC.id, tail.node)
    names = [file.path.name for file in state.files]
    assert [f"n1-{1:020d}-{2:020d}.parquet"] == names
    assert [seq for frame in state.tail for seq in frame["seq"]] == [3]
    assert (Decimal(3), 3) == setting.total()


def test_a_restart_keeps_files_and_reads_the_tail_again(tmp_path: Path):
    """The position is what the file names say; nothing is lost or counted twice."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail)
    tail.append(event(), void(1), event())
    tail.seal()
    tail.append(event())
    setting.settle()
    setting.restart()
    assert setting.facts.state(SPEC.id, tail.node).reached == 3
    setting.settle()
    assert (Decimal(2), 2) == setting.total()


def test_a_file_beyond_a_gap_does_not_count(tmp_path: Path):
    """When a file is missing, what follows it is written again from the log."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail)
    for _ in range(3):
        tail.append(event())
        tail.seal()
        setting.settle()
    setting.facts.state(SPEC.id, tail.node).files[1].path.unlink()
    (tmp_path / SPEC.id / "n1-torn.tmp").write_bytes(b"half")
    setting.restart()
    assert setting.facts.state(SPEC.id, tail.node).reached == 1
    setting.settle()
    assert (Decimal(3), 3) == setting.total()


def test_a_new_spec_is_replayed_from_the_start_and_joins(tmp_path: Path):
    """A meter that appears reads all of the log; the others are not read again for it."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail, rows_max=2)
    for sealed in (True, True, False):
        tail.append(event(), event(), event())
        if sealed:
            tail.seal()
    setting.settle()
    setting.specs = specs(SPEC, OTHER)
    assert not setting.reader.covered([OTHER.id], as_of=tail.durable().received_at)
    assert {OTHER.id: (0, 9)} == setting.reader.progress()
    setting.settle()
    assert (Decimal(0), 9) == setting.total(OTHER)
    assert (Decimal(9), 9) == setting.total()
    assert setting.reader.covered([OTHER.id, SPEC.id], as_of=tail.durable().received_at)
    assert setting.reader.progress() == {}


def test_covered_is_about_the_moment_asked_for(tmp_path: Path):
    """What the reader has passed is covered, what it has not read is not."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail, rows_max=2)
    tail.append(event(), event(), event())
    setting.reader.step()
    seen = tail.records["received_at"].dt.timestamp("us").to_list()
    assert setting.reader.covered([SPEC.id], as_of=Micros(seen[1]))
    assert not setting.reader.covered([SPEC.id], as_of=Micros(seen[2]))


def test_every_node_counts_and_a_broken_one_does_not_stop_the_others(tmp_path: Path):
    """A corrupt log fails the step and shows, while other nodes keep up."""
    sound, broken = MemoryTail("n2"), MemoryTail("n1")
    setting = Setting(tmp_path, broken, sound)
    sound.append(event())
    broken.append(event())
    broken.broken = RuntimeError("frame 7 is corrupt")
    with pytest.raises(RuntimeError, match="frame 7"):
        setting.reader.step()
    assert setting.reader.positions() == {"n1": 0, "n2": 1}
    assert not setting.reader.covered([SPEC.id], as_of=broken.durable().received_at)
    broken.broken = None
    setting.settle()
    assert (Decimal(2), 2) == setting.total()


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path):
    """When a facts file cannot be written the tail still counts, once, and the step fails."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail)
    tail.append(event())
    setting.settle()
    tail.seal()
    (tmp_path / SPEC.id).write_bytes(b"in the way")
    with pytest.raises(OSError, match="exists"):
        setting.reader.step()
    assert (Decimal(1), 1) == setting.total()
    (tmp_path / SPEC.id).unlink()
    setting.settle()
    assert (Decimal(1), 1) == setting.total()
    assert setting.facts.state(VOIDS_KEY, tail.node).sealed == 1


def test_facts_of_a_spec_that_nobody_has_are_dropped(tmp_path: Path):
    """An earlier version named it otherwise: its files go when the others are level."""
    tail = MemoryTail()
    setting = Setting(tmp_path, tail)
    tail.append(event())
    tail.seal()
    tail.append(event())
    setting.settle()
    left = tmp_path / SPEC.id
    renamed = spec("data.y")
    setting.specs = specs(renamed)
    setting.restart()
    setting.reader.step()
    assert left.is_dir()
    setting.settle()

    assert not left.exists()
    assert set(setting.facts.keys) == {VOIDS_KEY, renamed.id}
    setting.specs = {}
    setting.settle()
    assert set(setting.facts.keys) == {VOIDS_KEY, renamed.id}
