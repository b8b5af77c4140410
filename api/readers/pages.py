"""Which stretch of the log to read next, when several outputs stand at different places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import polars as pl

from catalog.events import VOIDS, RecordKind
from catalog.ids import NodeId, Seq

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[K]):
    """Read after ``after``, not beyond ``until`` (null: as far as there is), for ``keys``."""

    after: Seq
    until: Seq | None
    keys: tuple[K, ...]


def next_page(positions: Mapping[K, Seq]) -> Page[K] | None:
    """The page for whoever is furthest behind, up to where the next one stands.

    So what is new (a meter that has appeared) is replayed from 1 alone and then joins the rest.
    """
    places = sorted(set(positions.values()))
    if not places:
        return None
    keys = tuple(key for key, place in positions.items() if place == places[0])
    return Page(after=places[0], until=places[1] if len(places) > 1 else None, keys=keys)


def within(records: pl.DataFrame, until: Seq | None) -> pl.DataFrame:
    """``records`` up to ``until``."""
    return records if until is None else records.filter(pl.col("seq") <= until)


def voids_of(records: pl.DataFrame, *, node: NodeId) -> pl.DataFrame:
    """VOIDS: the compensations in a stretch of one node's log, or of the readers' own."""
    causes = {RecordKind.VOID.value: "void", RecordKind.COLLAPSED.value: "collapsed"}
    kinds: Sequence[int] = list(causes)
    return (
        records.filter(pl.col("kind").is_in(kinds), pl.col("target").is_not_null())
        .select(
            "seq",
            "received_at",
            node=pl.lit(node),
            target_node=pl.col("type").fill_null(pl.lit(node)),
            target_seq="target",
            cause=pl.col("kind").replace_strict(causes, return_dtype=pl.String),
        )
        .select(list(VOIDS))
        .cast(VOIDS)
    )
