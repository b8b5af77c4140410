"""CellSource: sums of spans from cells, and from facts where cells do not reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros
from catalog.events import FACTS
from catalog.ids import NodeId, Seq, SpecId
from rating.cuts import Cuts
from rating.ports import EXTREMES, SUMS
from storage.parquet.cells.rows import CELLS, rolled
from storage.parquet.cells.running import Running, RunningSums
from storage.parquet.cells.runs import Run
from storage.parquet.cells.spans import few, looked_up, meet, meet_whole, near
from storage.parquet.cells.store import EMPTY, ParquetCells, Stretch
from storage.parquet.cells.taken import Elsewhere, taken_elsewhere
from storage.parquet.facts import ParquetFacts
from storage.parquet.query import combined, within_range

CurrentCuts = Callable[[], Cuts]
_NO_CELLS = CELLS.to_frame()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What makes up one spec as of an instant: by node, its runs and the rest of its log.

    ``short`` are the runs that make up those in ``runs``.
    """

    spec: SpecId
    as_of: Micros
    runs: Mapping[NodeId, Sequence[Run]]
    short: Mapping[NodeId, Sequence[Run]]
    rest: Sequence[Stretch]

    @property
    def reached(self) -> dict[NodeId, Seq]:
        """The last record of every node that is in a run."""
        return {node: runs[-1].last if runs else Seq(0) for node, runs in self.runs.items()}

    def all_runs(self) -> Iterator[Run]:
        """Those that count."""
        return (run for runs in self.runs.values() for run in runs)

    def runs_after(self, reached: Mapping[NodeId, Seq]) -> list[Run] | None:
        """The runs of what is new since; null where that is no whole number of runs."""
        held = self.reached
        if not all(reached.get(node, 0) <= held[node] for node in held):
            return None
        return [
            run
            for node, runs in self.short.items()
            for run in runs
            if reached.get(node, 0) < run.first and run.last <= held[node]
        ]


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
        self._running = RunningSums()
        self._elsewhere = Elsewhere(facts)

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
        if few(spans) and (found := self._looked_up(spans, as_of, extremes=extremes)) is not None:
            return found
        parts = [EXTREMES.to_frame()]
        for (name,), own in spans.group_by("spec", maintain_order=True):
            view = self._view(SpecId(str(name)), as_of)
            parts.extend(self._parts(view, spans, own, extremes=extremes))
        return combined(pl.concat(part.select(list(EXTREMES)) for part in parts))

    def _looked_up(
        self, spans: pl.DataFrame, as_of: Micros, *, extremes: bool
    ) -> pl.DataFrame | None:
        """EXTREMES of spans of few subjects, all specs at once; null where a span cuts a cell."""
        parts = []
        for (name,), own in spans.group_by("spec"):
            view, subjects = self._view(SpecId(str(name)), as_of), own["subject"].unique()
            slices = [
                part
                for run in view.all_runs()
                for part in looked_up(self._cells.frame(run), subjects)
            ]
            slices.append(self._rest(view, own))
            parts.append(pl.concat(slices).with_columns(spec=pl.lit(name)))
        if not parts:
            return EXTREMES.to_frame()
        met = meet_whole(pl.concat(parts), spans, extremes=extremes)
        return None if met is None else combined(met.select(list(EXTREMES)))

    def _parts(
        self, view: View, spans: pl.DataFrame, own: pl.DataFrame, *, extremes: bool
    ) -> list[pl.DataFrame]:
        """Running sums and the rest; where a span cuts any cell, cells and facts instead."""
        rest = self._rest(view, own)
        added = meet(rest, own, view.spec, extremes=extremes)
        running = self._brought_on(view, spans, own, extremes=extremes)
        if running is not None and added.pieces.is_empty():
            return [running, added.cells]
        met = meet(
            pl.concat([self._rows(view.all_runs(), own), rest]), own, view.spec, extremes=extremes
        )
        return [met.cells, self._facts.extremes(met.pieces, as_of=view.as_of)]

    def _brought_on(
        self, view: View, spans: pl.DataFrame, own: pl.DataFrame, *, extremes: bool
    ) -> pl.DataFrame | None:
        """Running sums over all runs of ``view``; null where a span cuts one of their cells."""
        generation = self._cells.generation
        kept = self._running.of(spans, view.spec, extremes=extremes, generation=generation)
        new = None if kept is None else view.runs_after(kept.reached)
        if kept is not None and new == []:
            return kept.sums
        met = meet(
            self._rows(view.all_runs() if new is None else new, own),
            own,
            view.spec,
            extremes=extremes,
        )
        if met.pieces.height:
            return None
        before = [] if kept is None or new is None else [kept.sums]
        sums = combined(pl.concat([*before, met.cells.select(list(EXTREMES))]))
        if kept is None or new is not None:
            made = Running(
                spans=spans,
                extremes=extremes,
                generation=generation,
                reached=view.reached,
                sums=sums,
            )
            self._running.keep(view.spec, made)
        return sums

    def _view(self, spec: SpecId, as_of: Micros) -> View:
        runs, short, rest = {}, {}, []
        piles = self._cells.piles(spec)
        for node in self._facts.nodes(spec):
            pile = piles.get(node, EMPTY)
            runs[node], short[node] = pile.cover(as_of), pile.shortest
            horizon = pile.horizon(as_of)
            last = self._facts.reached(spec, node) if horizon is None else horizon
            first = runs[node][-1].last + 1 if runs[node] else 1
            rest.append(Stretch(spec=spec, node=node, first=first, last=last, as_of=as_of))
        return View(spec=spec, as_of=as_of, runs=runs, short=short, rest=rest)

    def _rows(self, runs: Iterable[Run], spans: pl.DataFrame) -> pl.DataFrame:
        """CELLS of ``runs`` that may be in ``spans``."""
        parts = (near(self._cells.frame(run), spans) for run in runs)
        return pl.concat([CELLS.to_frame(), *parts])

    def _rest(self, view: View, spans: pl.DataFrame) -> pl.DataFrame:
        """CELLS of what is in no run, at least of ``spans``, less what other logs take back."""
        parts, cuts = [_NO_CELLS], self._cuts()
        for stretch in view.rest:
            if stretch.anything(self._facts):
                facts, taken, _ = stretch.facts(self._facts, spans)
                parts.append(rolled(facts, taken=taken, cuts=cuts))
        if self._elsewhere.anything():
            taken = taken_elsewhere(self._facts, view.spec, spans, as_of=view.as_of)
            if taken.height:
                parts.append(rolled(FACTS.to_frame(), taken=taken, cuts=cuts))
        return pl.concat(parts)
