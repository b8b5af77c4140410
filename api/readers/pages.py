"""Which stretch of the log to read next, when several outputs stand at different places."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class Gathering:
    """When the next page of a log is taken: full, old enough, or asked for.

    Any thread may :meth:`ask`; the rest is the reader's, whose steps each are a :meth:`turn`.
    """

    def __init__(self, *, rows: int, age_s: float) -> None:
        """``rows`` make a page full; ``age_s`` is the least time between two that are not."""
        self._rows = rows
        self._age_s = age_s
        self._taken_at_s: dict[NodeId, float] = {}
        self._asked = False
        self._awaited = False

    def ask(self) -> None:
        """A question waits for what there is: the next turn takes it at once."""
        self._asked = True

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One step of the reader: it takes what was asked for, or the next does where it fails."""
        self._awaited, self._asked = self._asked, False
        try:
            yield
        except BaseException:
            self._asked |= self._awaited
            raise
        finally:
            self._awaited = False

    def is_due(self, node: NodeId, *, waiting: int) -> bool:
        """Whether to take ``waiting`` records now."""
        age_s = time.monotonic() - self._taken_at_s.get(node, 0.0)
        return self._awaited or waiting >= self._rows or age_s >= self._age_s

    def taken(self, node: NodeId) -> None:
        """A page was taken now."""
        self._taken_at_s[node] = time.monotonic()

    def clear(self) -> None:
        """Take the next page of every log at once."""
        self._taken_at_s.clear()


def within(records: pl.DataFrame, until: Seq | None) -> pl.DataFrame:
    """``records`` up to ``until``."""
    return records if until is None else records.filter(pl.col("seq") <= until)


def voids_of(records: pl.DataFrame, *, node: NodeId) -> pl.DataFrame:
    """VOIDS: the compensations in a stretch of one node's log, or of the readers' own."""
    causes = {RecordKind.VOID.value: "void", RecordKind.COLLAPSED.value: "collapsed"}
    kinds: Sequence[int] = list(causes)
    return (
        records.lazy()
        .filter(pl.col("kind").is_in(kinds), pl.col("target").is_not_null())
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
        .collect(engine="in-memory")
    )
