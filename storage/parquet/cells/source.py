"""CellSource: sums of spans from cells, and from facts where cells do not reach."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from catalog.clock import Micros
from catalog.ids import SpecId
from rating.cuts import Cuts
from rating.ports import EXTREMES, SUMS
from storage.parquet.cells.rows import CELLS, rolled
from storage.parquet.cells.spans import meet, near
from storage.parquet.cells.store import EMPTY, ParquetCells, Stretch
from storage.parquet.facts import ParquetFacts
from storage.parquet.query import combined, within_range

CurrentCuts = Callable[[], Cuts]


class CellSource:
    """:class:`rating.ports.FactSource` over cells, and over facts for the rest of the log.

    For any ``as_of`` the answer is the one that the facts give, to the last digit: cells are taken
    up to the last run all of which was received by then, the rest of the log is added up from its
    facts, and so is whatever a span cuts in two.
    """

    def __init__(self, cells: ParquetCells, facts: ParquetFacts, cuts: CurrentCuts) -> None:
        self._cells = cells
        self._facts = facts
        self._cuts = cuts

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of ``spans``: see :class:`rating.ports.FactSource`."""
        return within_range(self._answer(spans, as_of, extremes=False)).select(list(SUMS))

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of ``spans``: see :class:`rating.ports.FactSource`."""
        return self._answer(spans, as_of, extremes=True)

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span``: see :class:`rating.ports.FactSource`."""
        return self._facts.facts(spans, as_of=as_of)

    def _answer(self, spans: pl.DataFrame, as_of: Micros, *, extremes: bool) -> pl.DataFrame:
        """EXTREMES of ``spans``; smallest and largest values only right if asked for."""
        parts = [EXTREMES.to_frame()]
        for (name,), own in spans.group_by("spec", maintain_order=True):
            spec = SpecId(str(name))
            met = meet(self._near(spec, own, as_of), own, spec, extremes=extremes)
            parts.append(met.cells.select(list(EXTREMES)))
            if met.pieces.height:
                parts.append(self._facts.extremes(met.pieces, as_of=as_of))
        return combined(pl.concat(parts))

    def _near(self, spec: SpecId, spans: pl.DataFrame, as_of: Micros) -> pl.DataFrame:
        """CELLS of every run that counts, and of the rest, that may be in any of ``spans``."""
        parts, cuts = [CELLS.to_frame()], self._cuts()
        piles = self._cells.piles(spec)
        for node in self._facts.nodes(spec):
            pile = piles.get(node, EMPTY)
            cover = pile.cover(as_of)
            parts.extend(near(self._cells.frame(run), spans) for run in cover)
            horizon = pile.horizon(as_of)
            last = self._facts.reached(spec, node) if horizon is None else horizon
            first = cover[-1].last + 1 if cover else 1
            rest = Stretch(spec=spec, node=node, first=first, last=last, as_of=as_of)
            facts, taken, _ = rest.facts(self._facts, spans)
            parts.append(rolled(facts, taken=taken, cuts=cuts))
        return pl.concat(parts)
