"""What a node's log and its identity index mean, without a disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.clock import Clock, Micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from ingest.identity import Identities
from ingest.ports import Appended, Probed
from storage.log.frames import Stored
from storage.log.reader import as_stored


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

    def append(self, records: pa.RecordBatch) -> Appended:
        """See :class:`ingest.ports.RecordLog`."""
        appended = pl.DataFrame(pl.from_arrow(records))
        seq = self.next_seq
        received_at = max(self._clock.now_us(), self._last_received_at + 1)
        row = pl.int_range(pl.len(), dtype=pl.Int64)
        numbered = appended.with_columns(
            seq=row + seq, received_at=(row + received_at).cast(RECORDS["received_at"])
        )
        untimed = (pl.col("kind") == RecordKind.EVENT) & pl.col("time").is_null()
        timed = numbered.with_columns(
            time=pl.when(untimed).then("received_at").otherwise("time")
        ).select(RECORDS.names())
        self._records = pl.concat([self._records, timed])
        if records.num_rows:
            self._last_received_at = received_at + records.num_rows - 1
        return Appended(first_seq=seq, received_at=Micros(received_at), count=records.num_rows)

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

    def stored_after(self, seq: int, *, rows_max: int) -> list[Stored]:
        """The durable records behind ``seq`` as they would be stored; none at the end."""
        records = self.read_after(seq, rows_max=rows_max)
        return [as_stored(records)] if records.height else []

    def seq_before(self, received_at: int) -> Seq:
        """The last seq received before the instant."""
        earlier = self._records["received_at"].dt.epoch("us") < received_at
        return Seq(int(earlier.sum()))


class MemoryIdentityIndex:
    """An IdentityIndex that is a dictionary and forgets nothing."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int]] = {}
        self._voids: set[int] = set()
        self.key = np.array([1, 2], np.uint64)

    def probe(self, identities: Identities) -> Probed:
        """See :class:`ingest.ports.IdentityIndex`."""
        known = [self._known.get(pair, (0, 0)) for pair in _pairs(identities)]
        content = identities.content.tolist()
        return Probed(
            seq=np.array([seq for seq, _ in known], np.int64),
            same=np.array(
                [bool(seq) and old == new for (seq, old), new in zip(known, content, strict=True)],
                np.bool_,
            ),
        )

    def insert(self, identities: Identities, *, first_seq: Seq, received_at: Micros) -> None:
        """See :class:`ingest.ports.IdentityIndex`."""
        del received_at  # nothing is forgotten
        rows = zip(_pairs(identities), identities.content.tolist(), strict=True)
        for seq, (pair, content) in enumerate(rows, first_seq):
            self._known[pair] = (seq, content)

    def void(self, seqs: Sequence[int]) -> None:
        """See :class:`ingest.ports.IdentityIndex`."""
        self._voids.update(seqs)

    def is_void(self, seqs: Sequence[int]) -> list[bool]:
        """See :class:`ingest.ports.IdentityIndex`."""
        return [seq in self._voids for seq in seqs]


def _pairs(identities: Identities) -> list[tuple[int, int]]:
    return list(zip(identities.low.tolist(), identities.high.tolist(), strict=True))
