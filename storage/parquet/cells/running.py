"""Running sums: what spans came to at the last position, so that only what is new is added.

Kept for the spans that were asked for last (those of the open billing periods, over and over), in
memory: they say the positions they were made at and are made anew from cells when they are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros
from catalog.ids import NodeId, Seq, SpecId
from rating.kept import Kept

ROWS_KEPT_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """EXTREMES of the spans of one spec, over every node's log up to ``reached``.

    ``extremes`` says whether smallest and largest values are right, ``generation`` of which cells
    they were made.
    """

    spans: pl.DataFrame
    extremes: bool
    generation: int
    reached: Mapping[NodeId, Seq]
    sums: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Onward:
    """Running sums with what followed the last run: ``sums`` of ``base`` and of facts after it.

    All that was received by ``as_of`` of records ``[first, reached]`` of each node is in them.
    """

    spans: pl.DataFrame
    extremes: bool
    base: pl.DataFrame
    as_of: Micros
    first: Mapping[NodeId, int]
    reached: Mapping[NodeId, int]
    sums: pl.DataFrame


class RunningSums:
    """Keeps those asked for last. Thread-safe; two threads may both make the same."""

    def __init__(self, *, rows_max: int = ROWS_KEPT_MAX) -> None:
        self._kept: Kept[tuple[int, SpecId], Running] = Kept(rows_max)
        self._onward: Kept[tuple[int, SpecId], Onward] = Kept(rows_max)

    def onward(
        self, running: Running, spec: SpecId, *, as_of: Micros, first: Mapping[NodeId, int]
    ) -> Onward | None:
        """What is kept that goes on from ``running``, as of ``as_of`` or earlier."""
        found = self._onward.get((id(running.spans), spec))
        if found is None or found.spans is not running.spans or found.base is not running.sums:
            return None
        before = found.as_of <= as_of and found.first == first
        return found if before and found.extremes >= running.extremes else None

    def keep_onward(self, spec: SpecId, onward: Onward) -> None:
        """Keep it until others need the room."""
        rows = onward.sums.height + onward.spans.height
        self._onward.put((id(onward.spans), spec), onward, size=rows)

    def of(
        self, spans: pl.DataFrame, spec: SpecId, *, extremes: bool, generation: int
    ) -> Running | None:
        """What is kept for this very frame, if anything that knows as much."""
        found = self._kept.get((id(spans), spec))
        if found is None or found.spans is not spans or found.generation != generation:
            return None
        return found if found.extremes >= extremes else None

    def keep(self, spec: SpecId, running: Running) -> None:
        """Keep it until others need the room."""
        rows = running.sums.height + running.spans.height
        self._kept.put((id(running.spans), spec), running, size=rows)
