"""What a stretch of one node's log takes back: facts inside it, and facts before it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.ids import NodeId
from storage.parquet.facts import VOIDS_KEY, ParquetFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The events that records ``[first, last]`` of a node void or collapse for the first time.

    ``inside`` and ``earlier`` are seqs of that node: in the stretch, and before it. ``received``
    says when its compensations came in.
    """

    inside: pl.Series
    earlier: pl.Series
    received: pl.Series

    @classmethod
    def of(
        cls, facts: ParquetFacts, node: NodeId, *, stretch: tuple[int, int], as_of: Micros | None
    ) -> Taken:
        """The compensations of a stretch ``(first, last)``, received up to ``as_of``."""
        first, last = stretch
        voids = facts.rows(VOIDS_KEY, node, first=first, last=last)
        if as_of is not None:
            voids = voids.filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
        targets = voids["target_seq"].unique()
        earlier = targets.filter(targets < first)
        if len(earlier):
            before = facts.rows(VOIDS_KEY, node, first=1, last=first - 1)
            earlier = earlier.filter(~earlier.is_in(before["target_seq"].implode()))
        inside = targets.filter(targets >= first)
        return cls(inside=inside, earlier=earlier, received=voids["received_at"])

    def standing(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The facts of the stretch that it does not take back itself."""
        if self.inside.is_empty():
            return rows
        return rows.filter(~pl.col("seq").is_in(self.inside.implode()))
