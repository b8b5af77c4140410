"""The cells reader: level with the files of facts, whatever was lost, and verified against them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from api.checks.cells import check_cells
from api.checks.report import Status
from api.readers.cells import CellsReader, KeptCuts
from api.readers.facts import FactsReader
from api.rebuild import Rebuildable, rebuild
from catalog.clock import Micros
from catalog.ids import NodeId, SpecId
from catalog.snapshot import Catalog
from rating.ports import SPANS
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import ParquetFacts
from tests.logs_in_memory import T0, MemoryTail, event, spec, specs, void

SPEC, N1 = spec(), NodeId("n1")
LATER = Micros(4 * 10**15)


class Setting:
    """Both readers over one log of a test."""

    def __init__(self, directory: Path, tail: MemoryTail) -> None:
        self.directory, self.tails = directory, {tail.node: tail}
        self.catalog = Catalog()
        self.restart()

    def restart(self) -> None:
        """Facts and cells opened anew."""
        self.facts = ParquetFacts(self.directory / "facts")
        self.cells = ParquetCells(self.directory / "cells", self.facts)
        given = {"tails": lambda: self.tails, "specs": lambda: specs(SPEC), "facts": self.facts}
        self.facts_reader = FactsReader(**given)
        cuts = KeptCuts(lambda: self.catalog)
        self.reader = CellsReader(cells=self.cells, cuts=cuts, **given)
        self.source = CellSource(self.cells, self.facts, lambda: cuts.last)

    def settle(self) -> None:
        """Step until there is nothing to do."""
        while self.facts_reader.step() or self.reader.step():
            pass

    def total(self) -> tuple[Decimal, int]:
        """Sum and count of everything."""
        row = (1, SPEC.id, None, T0 - timedelta(days=9), T0 + timedelta(days=400))
        sums = self.source.sums(pl.DataFrame([row], schema=SPANS, orient="row"), as_of=LATER)
        return sums["sum"].sum(), sums["count"].sum()

    def files(self) -> list[Path]:
        """The files of cells, in log order."""
        return sorted((self.directory / "cells" / SPEC.id).glob("*.parquet"))

    def verified(self) -> Status:
        """How the check of cells ends."""
        return check_cells(self.cells, self.facts, [SPEC.id], node=N1).status


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Nine segments of two events, of which one is void, and one event in the tail."""
    tail = MemoryTail()
    made = Setting(tmp_path, tail)
    for number in range(9):
        tail.append(event(), event('{"x":"2"}'))
        if number == 5:
            tail.append(void(2))
        tail.seal()
        made.settle()
    tail.append(event())
    made.settle()
    return made


def test_cells_follow_the_segments_and_the_tail_counts_too(setting: Setting):
    """Nine runs and one of eight; nothing is lagging, nothing is counted twice."""
    assert len(setting.files()) == 10
    assert setting.reader.lag == {N1: 0}
    assert (Decimal(26), 18) == setting.total()
    assert Status.OK is setting.verified()


def test_a_restart_reads_the_position_from_the_names(setting: Setting):
    """A torn file does not count, and nothing is written again."""
    (setting.directory / "cells" / SPEC.id / "n1-torn.tmp").write_bytes(b"half")
    names = setting.files()
    setting.restart()
    setting.settle()
    assert setting.files() == names
    assert (Decimal(26), 18) == setting.total()


def test_a_lost_run_is_made_again(setting: Setting):
    """What lies behind the gap does not count until the gap is filled."""
    setting.files()[3].unlink()
    setting.restart()
    assert setting.cells.pile(SPEC.id, N1).reached == 4
    setting.settle()
    assert len(setting.files()) == 10
    assert (Decimal(26), 18) == setting.total()
    assert Status.OK is setting.verified()


def test_a_catalog_that_changes_changes_no_number(setting: Setting):
    """Later runs may be cut otherwise."""
    setting.catalog = replace(setting.catalog, revision=7)
    tail = setting.tails[N1]
    tail.append(event())
    tail.seal()
    setting.settle()
    assert (Decimal(27), 19) == setting.total()
    assert Status.OK is setting.verified()


@pytest.mark.parametrize("place", [0, 9])
def test_an_altered_run_is_found_and_a_rebuild_heals(setting: Setting, place: int):
    """A short one by its facts, a long one by the short ones."""
    order = sorted(setting.files(), key=lambda path: path.name.split("-")[1:3])
    long = next(path for path in order if path.name.split("-")[2].endswith("17"))
    path = long if place else next(path for path in order if path != long)
    rows = pl.read_parquet(path)
    rows.with_columns(pl.col("sum") + 1).write_parquet(path)
    found = check_cells(setting.cells, setting.facts, [SPEC.id], node=N1)
    assert found.status is Status.DIFFERENT
    assert path.name in found.detail
    assert found.first_difference is not None
    assert found.first_difference.seq == 1
    stores = {"cells": Rebuildable(reader=setting.reader, drop=setting.reader.drop)}
    assert rebuild(["cells"], stores)[0].level
    assert Status.OK is setting.verified()
    assert (Decimal(26), 18) == setting.total()


def test_cells_of_a_spec_that_nobody_has_are_dropped(setting: Setting):
    """An earlier version named it otherwise; who asks for nothing drops nothing."""
    left = setting.directory / "cells" / "dead"
    left.mkdir()
    kept = setting.files()
    (left / kept[0].name).write_bytes(kept[0].read_bytes())
    setting.restart()
    assert setting.cells.pile(SpecId("dead"), N1).reached
    setting.settle()
    assert not left.exists()
    assert setting.cells.specs == (SPEC.id,)
    assert setting.files() == kept
