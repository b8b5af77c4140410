"""CellSource: sums of spans from cells, and from facts where cells do not reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from catalog.clock import Micros
from catalog.events import FACTS
from catalog.ids import NodeId, Seq, SpecId
from rating.cuts import Cuts
from rating.ports import EXTREMES, SUMS
from storage.parquet.cells.rows import CELLS, rolled
from storage.parquet.cells.running import Onward, Running, RunningSums
from storage.parquet.cells.runs import Run
from storage.parquet.cells.spans import few, looked_up, meet, meet_whole, near
from storage.parquet.cells.store import EMPTY, ParquetCells, Stretch
from storage.parquet.cells.taken import Elsewhere, taken_elsewhere
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from storage.parquet.query import EDGES_MAX, combined, edges_of, within_range
from storage.parquet.query import met as met_spans
from storage.parquet.totals import Totals

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
        by_spec = {SpecId(str(name)): own for (name,), own in spans.group_by("spec")}
        parts = [
            self._of_spec(self._view(spec, as_of), spans, own, extremes=extremes)
            for spec, own in by_spec.items()
        ]
        found = pl.concat([EXTREMES.to_frame(), *parts])
        apart = sum(own["span"].n_unique() for own in by_spec.values())
        return found if apart == spans["span"].n_unique() else combined(found)

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

    def _of_spec(
        self, view: View, spans: pl.DataFrame, own: pl.DataFrame, *, extremes: bool
    ) -> pl.DataFrame:
        """Running sums and the rest; where a span cuts any cell, cells and facts instead."""
        running = self._brought_on(view, spans, own, extremes=extremes)
        onward = None if running is None else self._onward(view, running, own)
        if onward is not None:
            return onward
        rest = self._rest(view, own)
        added = meet(rest, own, view.spec, extremes=extremes)
        if running is not None and added.pieces.is_empty():
            return _together(running.sums, added.cells)
        met = meet(
            pl.concat([self._rows(view.all_runs(), own), rest]), own, view.spec, extremes=extremes
        )
        return _together(met.cells, self._facts.extremes(met.pieces, as_of=view.as_of))

    def _brought_on(
        self, view: View, spans: pl.DataFrame, own: pl.DataFrame, *, extremes: bool
    ) -> Running | None:
        """Running sums over all runs of ``view``; null where a span cuts one of their cells."""
        generation = self._cells.generation
        kept = self._running.of(spans, view.spec, extremes=extremes, generation=generation)
        new = None if kept is None else view.runs_after(kept.reached)
        if kept is not None and new == []:
            return kept
        met = meet(
            self._rows(view.all_runs() if new is None else new, own),
            own,
            view.spec,
            extremes=extremes,
        )
        if met.pieces.height:
            return None
        before = [] if kept is None or new is None else [kept.sums]
        made = Running(
            spans=spans,
            extremes=extremes,
            generation=generation,
            reached=view.reached,
            sums=_together(*before, met.cells),
        )
        if kept is None or new is not None:
            self._running.keep(view.spec, made)
        return made

    def _onward(self, view: View, running: Running, own: pl.DataFrame) -> pl.DataFrame | None:
        """Running sums and the facts after them; null where these take back any before them.

        What was added last time is not added again.
        """
        rest = [stretch for stretch in view.rest if stretch.anything(self._facts)]
        if self._elsewhere.anything():
            return None
        if not rest:
            return running.sums
        first = {stretch.node: stretch.first for stretch in rest}
        kept = self._running.onward(running, view.spec, as_of=view.as_of, first=first)
        found = None if kept is None else self._facts_after(rest, kept.reached, own)
        if kept is None or found is None:
            kept, found = None, self._facts_after(rest, {}, own)
        edges = edges_of(own)
        if found is None or len(edges) > EDGES_MAX:
            return None
        before = running.sums if kept is None else kept.sums
        reached = {node: place - 1 for node, place in first.items()}
        if kept is not None:
            reached = dict(kept.reached)
        for node, rows in found.items():
            highest = rows["seq"].max()
            assert highest is None or isinstance(highest, int)
            reached[node] = max(reached[node], highest or 0)
        totals = Totals(edges=edges, as_of=view.as_of, extremes=running.extremes)
        sums = _together(before, _extremes(met_spans(totals.of([], found.values()), own, edges)))
        made = Onward(
            spans=running.spans, extremes=running.extremes, base=running.sums, as_of=view.as_of,
            first=first, reached=reached, sums=sums,
        )  # fmt: skip
        self._running.keep_onward(view.spec, made)
        return sums

    def _facts_after(
        self, rest: Sequence[Stretch], reached: Mapping[NodeId, int], spans: pl.DataFrame
    ) -> dict[NodeId, pl.DataFrame] | None:
        """The facts of each stretch after ``reached``.

        Null where one takes back any before, or where compensations are not known as far.
        """
        found = {}
        for stretch in rest:
            first = max(stretch.first, reached.get(stretch.node, 0) + 1)
            told = self._facts.state(VOIDS_KEY, stretch.node).reached
            facts, taken, _ = replace(stretch, first=first).facts(self._facts, spans)
            # Compensations that a rebuild has not read again would be passed over for good.
            if taken.height or facts.filter(pl.col("seq") > told).height:
                return None
            found[stretch.node] = facts
        return found

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


def _together(*parts: pl.DataFrame) -> pl.DataFrame:
    """EXTREMES of several parts of the same spans."""
    return combined(pl.concat([part.select(list(EXTREMES)) for part in parts]))


def _extremes(sums: pl.DataFrame) -> pl.DataFrame:
    """SUMS as EXTREMES that say no more than they do."""
    missing = {name: pl.lit(None, EXTREMES[name]) for name in ("low", "high")}
    absent = {"valued": pl.lit(0, pl.Int64), **missing}
    return sums.with_columns(**{n: absent[n] for n in absent if n not in sums.columns})
