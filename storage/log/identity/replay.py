"""What an index reads from the log it is derived from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.clock import Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from storage.log.frames import Stored

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

    def stored_after(self, seq: int, *, rows_max: int) -> Sequence[Stored]:
        """The records behind ``seq`` as they are stored, contiguous; none only at the end."""
        ...

    def seq_before(self, received_at: int) -> Seq:
        """A seq behind which everything received from the instant on is found."""
        ...


class Replayed(NamedTuple):
    """A stretch of the log: its events, the seqs its voids name, its last record."""

    events: Stored
    voided: list[int]
    last_seq: int


def replayed(log: ReplayedLog, after: int) -> Iterator[Replayed]:
    """Everything behind the record ``after`` that an index keeps, in order."""
    while stretches := log.stored_after(after, rows_max=REPLAY_ROWS):
        for stored in stretches:
            after = int(stored.seqs[-1])
            kinds = stored.records.column("kind").to_numpy()
            yield Replayed(
                _only(stored, kinds == RecordKind.EVENT),
                _voided(stored.records, kinds == RecordKind.VOID),
                after,
            )


def _only(stored: Stored, rows: npt.NDArray[np.bool_]) -> Stored:
    if rows.all():
        return stored
    kept = stored.records.filter(pa.array(rows))
    return Stored(kept, stored.seqs[rows], stored.received_at[rows])


def received_since(stored: Stored, instant: int) -> Stored:
    """The records received at ``instant`` or later."""
    return _only(stored, stored.received_at >= instant)


def _voided(records: pa.RecordBatch, voids: npt.NDArray[np.bool_]) -> list[int]:
    """What the voids name. One may name an event of another node, or one of long ago."""
    if not voids.any():
        return []
    found = records.select(["type", "target"]).filter(pa.array(voids)).to_pylist()
    return [void["target"] for void in found if void["type"] is None and void["target"] is not None]
