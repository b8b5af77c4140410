"""What an index reads from the log it is derived from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import polars as pl

from catalog.clock import Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq

REPLAY_ROWS = 50_000


class ReplayedLog(Protocol):
    """The log of a node that nobody else writes to (:class:`storage.log.node_log.NodeLog`)."""

    @property
    def node(self) -> NodeId:
        """Whose log it is."""
        ...

    @property
    def next_seq(self) -> Seq:
        """The seq the next record will have."""
        ...

    @property
    def last_received_at(self) -> Micros:
        """When the last record was received."""
        ...

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """The RECORDS behind ``seq``, contiguous; none only when there are none."""
        ...

    def seq_before(self, received_at: int) -> Seq:
        """A seq behind which everything received from the instant on is found."""
        ...


class Replayed(NamedTuple):
    """A stretch of the log: its events (RECORDS), the seqs its voids name, its last record."""

    events: pl.DataFrame
    voided: list[int]
    last_seq: int


def replayed(log: ReplayedLog, after: int) -> Iterator[Replayed]:
    """Everything behind the record ``after`` that an index keeps, in order."""
    while (records := log.read_after(after, rows_max=REPLAY_ROWS)).height:
        after = records["seq"][-1]
        # A void may name an event of another node, or one that left the window long ago.
        voids = records.filter(pl.col("kind") == RecordKind.VOID, pl.col("type").is_null())
        yield Replayed(
            records.filter(pl.col("kind") == RecordKind.EVENT),
            voids["target"].drop_nulls().to_list(),
            after,
        )
