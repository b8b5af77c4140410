"""What a node's log and its identity index mean, without a disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from catalog.clock import Clock, Micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from ingest.ports import Appended, Probed


class MemoryLog:
    """A RecordLog and RecordReader that lasts as long as the process."""

    def __init__(self, node: NodeId, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._records = RECORDS.to_frame()
        self._durable = 0
        self._last_received_at = 0

    @property
    def node(self) -> NodeId:
        """The node that owns this log."""
        return self._node

    @property
    def next_seq(self) -> Seq:
        """The seq the next record will have."""
        return Seq(self._records.height + 1)

    @property
    def last_received_at(self) -> Micros:
        """The ``received_at`` of the last record, 0 when there is none."""
        return Micros(self._last_received_at)

    def append(self, records: pl.DataFrame) -> Appended:
        """See :class:`ingest.ports.RecordLog`."""
        seq = self.next_seq
        received_at = max(self._clock.now_us(), self._last_received_at + 1)
        row = pl.int_range(pl.len(), dtype=pl.Int64)
        numbered = records.with_columns(
            seq=row + seq, received_at=(row + received_at).cast(RECORDS["received_at"])
        )
        untimed = (pl.col("kind") == RecordKind.EVENT) & pl.col("time").is_null()
        timed = numbered.with_columns(
            time=pl.when(untimed).then("received_at").otherwise("time")
        ).select(RECORDS.names())
        self._records = pl.concat([self._records, timed])
        if records.height:
            self._last_received_at = received_at + records.height - 1
        return Appended(first_seq=seq, received_at=Micros(received_at), count=records.height)

    def sync(self) -> None:
        """See :class:`ingest.ports.RecordLog`."""
        self._durable = self._records.height

    def read(self, seqs: Sequence[int]) -> pl.DataFrame:
        """See :class:`ingest.ports.RecordReader`."""
        wanted = pl.Series(sorted(set(seqs)), dtype=pl.Int64).implode()
        return self._records.head(self._durable).filter(pl.col("seq").is_in(wanted))

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """The durable RECORDS behind ``seq``; none only when there are none."""
        return self._records.head(self._durable).slice(seq, rows_max)

    def seq_before(self, received_at: int) -> Seq:
        """The last seq received before the instant."""
        earlier = self._records["received_at"].dt.epoch("us") < received_at
        return Seq(int(earlier.sum()))


class MemoryIdentityIndex:
    """An IdentityIndex that is a dictionary and forgets nothing."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._voids: set[int] = set()

    def probe(self, identities: pl.DataFrame) -> Probed:
        """See :class:`ingest.ports.IdentityIndex`."""
        rows = identities.select("source", "id", "content").rows()
        known = [
            (*self._known.get((source, id_), (0, 0)), content) for source, id_, content in rows
        ]
        return Probed(
            seq=np.array([seq for seq, _, _ in known], np.int64),
            same=np.array([bool(seq) and old == new for seq, old, new in known], np.bool_),
        )

    def insert(self, identities: pl.DataFrame, *, first_seq: Seq, received_at: Micros) -> None:
        """See :class:`ingest.ports.IdentityIndex`."""
        del received_at  # nothing is forgotten
        rows = identities.select("source", "id", "content").rows()
        for seq, (source, id_, content) in enumerate(rows, first_seq):
            self._known[source, id_] = (seq, content)

    def void(self, seqs: Sequence[int]) -> None:
        """See :class:`ingest.ports.IdentityIndex`."""
        self._voids.update(seqs)

    def is_void(self, seqs: Sequence[int]) -> list[bool]:
        """See :class:`ingest.ports.IdentityIndex`."""
        return [seq in self._voids for seq in seqs]
