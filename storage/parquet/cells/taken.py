"""What a stretch of one node's log takes back: facts inside it, and facts before it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, SpecId
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from storage.parquet.query import bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The events that records ``[first, last]`` of a node void or collapse for the first time.

    ``inside`` and ``earlier`` are seqs of that node: in the stretch, and before it. ``received``
    says when its compensations came in. What a log says of another node's events is left out: no
    run holds it, see :func:`taken_elsewhere`.
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
        if not facts.any_held(VOIDS_KEY, node, first=first):
            nothing = VOIDS.to_frame()
            seqs = nothing["target_seq"]
            return cls(inside=seqs, earlier=seqs, received=nothing["received_at"])
        own = pl.col("target_node") == pl.col("node")
        voids = facts.rows(VOIDS_KEY, node, first=first, last=last).filter(own)
        if as_of is not None:
            voids = voids.filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
        targets = voids["target_seq"].unique()
        earlier = targets.filter(targets < first)
        if len(earlier):
            before = facts.rows(VOIDS_KEY, node, first=1, last=first - 1).filter(own)
            earlier = earlier.filter(~earlier.is_in(before["target_seq"].implode()))
        inside = targets.filter(targets >= first)
        return cls(inside=inside, earlier=earlier, received=voids["received_at"])

    def standing(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The facts of the stretch that it does not take back itself."""
        if self.inside.is_empty():
            return rows
        return rows.filter(~pl.col("seq").is_in(self.inside.implode()))


class Elsewhere:
    """Whether any log takes back an event of another: asked of what is held, once a change."""

    def __init__(self, facts: ParquetFacts) -> None:
        self._facts = facts
        self._seen: tuple[tuple[object, ...], bool] | None = None

    def anything(self) -> bool:
        """Whether :func:`taken_elsewhere` can find anything, as of any instant."""
        states = [self._facts.state(VOIDS_KEY, node) for node in self._facts.nodes(VOIDS_KEY)]
        held = tuple(part for state in states for part in (state.files, state.tail))
        seen = self._seen
        if seen is not None and _same(seen[0], held):
            return seen[1]
        elsewhere = pl.col("target_node") != pl.col("node")
        found = self._facts.scan(VOIDS_KEY).select(elsewhere.any()).collect().item()
        self._seen = held, bool(found)
        return bool(found)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether these are the very same objects (frames have no equality of their own)."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def taken_elsewhere(
    facts: ParquetFacts, spec: SpecId, spans: pl.DataFrame, *, as_of: Micros
) -> pl.DataFrame:
    """The FACTS of ``spec``, at least in ``spans``, that only another node's log takes back.

    Readers' compensations hold from an instant before they are found, so they are in no run.
    """
    seen = facts.scan(VOIDS_KEY).filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
    elsewhere = pl.col("target_node") != pl.col("node")
    targets = pl.col("target_node").alias("node"), pl.col("target_seq").alias("seq")
    named = seen.filter(elsewhere).select(targets).unique()
    own = seen.filter(~elsewhere).select(targets)
    gone = named.join(own, on=["node", "seq"], how="anti").collect()
    if gone.is_empty():
        return FACTS.to_frame()
    near = bounded(facts.scan(spec), spans)
    received = near.filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
    return received.join(gone.lazy(), on=["node", "seq"], how="semi").collect()
