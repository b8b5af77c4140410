"""Running sums: what spans came to at the last position, so that only what is new is added.

Kept for the spans that were asked for last (those of the open billing periods, over and over), in
memory: they say the positions they were made at and are made anew from cells when they are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

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


class RunningSums:
    """Keeps those asked for last. Thread-safe; two threads may both make the same."""

    def __init__(self, *, rows_max: int = ROWS_KEPT_MAX) -> None:
        self._kept: Kept[tuple[int, SpecId], Running] = Kept(rows_max)

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
