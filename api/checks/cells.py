"""Cells with the facts they add up: every run again, from the files of facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl

from api.checks.report import Check
from catalog.ids import NodeId, Seq, SpecId
from storage.parquet.cells.rows import CELLS, KEYS, added, signed
from storage.parquet.cells.runs import Run
from storage.parquet.cells.store import ParquetCells, Stretch
from storage.parquet.facts import ParquetFacts

_COUNTED = ("subject", "start", "dimensions")


def check_cells(
    cells: ParquetCells, facts: ParquetFacts, specs: Iterable[SpecId], *, node: NodeId
) -> Check:
    """Find the first run of ``node`` that is not what its facts come to."""
    runs = 0
    well = Check.well("cells", "cells", node, "")
    try:
        for spec in specs:
            for run, found in _compared(cells, facts, spec, node):
                if found is not None:
                    return well.differs(run.first, f"{run.name} of {spec}: {found}")
                runs += 1
    except (OSError, pl.exceptions.PolarsError) as error:
        return well.unavailable(f"a run or its facts cannot be read: {error}")
    return replace(well, detail=f"{runs} runs are what their facts come to")


def _compared(
    cells: ParquetCells, facts: ParquetFacts, spec: SpecId, node: NodeId
) -> Iterator[tuple[Run, str | None]]:
    pile, sealed = cells.pile(spec, node), facts.state(spec, node).sealed
    short: dict[Seq, Run] = {run.first: run for run in pile.shortest}
    for run in sorted(run for runs in pile.runs.values() for run in runs):
        if run.last > sealed:
            continue  # the facts are being rebuilt: compared when they are there
        rows = pl.read_parquet(run.path)
        if run == short.get(run.first):
            yield run, _difference(rows, _again(facts, spec, run, rows))
        else:
            parts = [r for r in short.values() if run.first <= r.first and r.last <= run.last]
            yield run, _difference(rows, added([pl.read_parquet(r.path) for r in parts]))


def _again(facts: ParquetFacts, spec: SpecId, run: Run, rows: pl.DataFrame) -> pl.DataFrame:
    """CELLS of a short run from its facts, cut as ``rows`` are (the catalog may have changed)."""
    stretch = Stretch(spec=spec, node=run.node, first=run.first, last=run.last)
    given = signed(*stretch.facts(facts)[:2]).sort("time")
    pieces = rows.select("subject", "start", "end").unique().sort("start")
    placed = given.join_asof(
        pieces, left_on="time", right_on="start", by="subject", check_sortedness=False,
        coalesce=False,
    )  # fmt: skip
    held = pl.col("time") < pl.col("end")
    return added([placed.with_columns(pl.when(held).then(pl.col("start", "end")))])


def _difference(stored: pl.DataFrame, made: pl.DataFrame) -> str | None:
    stored = stored.select(list(CELLS)).sort(KEYS)
    if stored.equals(made):
        return None
    uneven = pl.concat([stored, made]).filter(~pl.concat([stored, made]).is_duplicated())
    if uneven.is_empty():
        return "a cell is there twice"
    subject, start, dimensions = uneven.sort(KEYS).select(_COUNTED).row(0)
    day = "outside every cell" if start is None else f"{start:%Y-%m-%dT%H:%MZ}"
    return f"subject {subject}, {day}, {dimensions} differs"
