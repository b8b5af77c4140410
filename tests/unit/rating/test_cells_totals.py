"""Totals from cells are the totals from facts, byte for byte, and both are the oracle's."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.clock import Micros
from catalog.errors import OutOfRange
from catalog.events import VOIDS
from catalog.ids import NodeId, Seq, SpecId
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.cuts import Cuts, cuts_of
from rating.pipeline import rate
from rating.planned import Planning
from rating.rendering import checksum
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from tests.oracle import Refused, oracle
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import (
    as_ofs,
    catalog_from,
    events,
    facts_of,
    periods,
    trees,
)
from tests.unit.rating.test_oracle import as_lines

NODE = NodeId("n1")


def in_files(directory: Path, facts: pl.DataFrame, seed: int) -> ParquetFacts:
    """Facts of one node in segments of any size, the rest in memory."""
    store, chance = ParquetFacts(directory), random.Random(seed)
    last = max([0, *facts["seq"]])
    places = sorted({chance.randint(1, last) for _ in range(4)}) if last else []
    for spec in [VOIDS_KEY, *facts["spec"].unique()]:
        own = VOIDS.to_frame() if spec == VOIDS_KEY else facts.filter(pl.col("spec") == spec)
        first = 1
        for place in places:
            part = own.filter(pl.col("seq").is_between(first, place))
            store.seal(SpecId(spec), NODE, last=Seq(place), rows=part)
            first = place + 1
        store.extend(SpecId(spec), NODE, last=Seq(last), rows=own.filter(pl.col("seq") >= first))
    return store


def rolled_up(directory: Path, facts: ParquetFacts, cuts: Cuts) -> CellSource:
    """Cells of every file of facts."""
    cells = ParquetCells(directory, facts)
    for spec in facts.keys:
        while spec != VOIDS_KEY and (file := cells.due(spec, NODE)) is not None:
            cells.extend(spec, file, cuts)
    return CellSource(cells, facts, lambda: cuts)


def rated(catalog, spec, source, as_of, planning=None):
    """LINES, or the error that there are none for."""
    try:
        return rate(catalog, period=spec, source=source, as_of=as_of, planning=planning).lines
    except (NotCovered, OutOfRange) as error:
        return type(error)


@pytest.mark.slow
@settings(
    max_examples=15, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(tree=trees(), found=events(), text=periods, as_of=as_ofs, seed=st.integers(0, 2**32))
def test_totals_from_cells_from_facts_and_by_the_oracle_are_the_same(
    tree, found, text, as_of, seed
):
    """The same checksum whichever is read, whether or not cells are cut where lines are."""
    catalog, spec = catalog_from(tree), PeriodSpec.parse(text)
    found.sort(key=lambda event: event.received_at)  # as a log is
    facts = facts_of(catalog, found)
    with tempfile.TemporaryDirectory() as name:
        plain = in_files(Path(name) / "facts", facts, seed)
        cut = rolled_up(Path(name) / "cut", plain, cuts_of(catalog))
        uncut = rolled_up(Path(name) / "uncut", plain, Cuts())
        lines = rated(catalog, spec, plain, as_of)
        planning = Planning()
        for moment in (LATER, Micros(0)):
            rated(catalog, spec, cut, moment, planning)
        for source in (cut, uncut):
            again = rated(catalog, spec, source, as_of, planning)
            if isinstance(lines, type):
                assert again is lines
            else:
                assert checksum(again) == checksum(lines)
                assert again.equals(lines)
    if isinstance(lines, type):
        return
    try:
        expected = oracle(catalog, found, first=spec.first, until=spec.until, as_of=as_of)
    except Refused:
        return
    assert as_lines(lines) == expected
