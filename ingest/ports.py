"""What the gateway's pipeline needs from the outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.clock import Micros
from catalog.errors import DomainError
from catalog.ids import NodeId, Seq
from ingest.identity import Identities


class LogUnavailable(DomainError):
    """The log took an I/O error (or is closed): nothing more is acknowledged until a restart."""

    code = "log_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Where a group of records went. Record i has ``first_seq + i`` and ``received_at + i`` µs."""

    first_seq: Seq
    received_at: Micros
    count: int


class RecordLog(Protocol):
    """One node's append-only log. One writer; not thread-safe: calls are made one at a time."""

    @property
    def node(self) -> NodeId:
        """The node that owns this log."""
        ...

    def append(self, records: pa.RecordBatch) -> Appended:
        """Write one frame holding ``records`` and number them. Not durable before :meth:`sync`.

        Args:
            records: APPENDED_ARROW; null ``time`` of an event is filled with its ``received_at``.

        Raises:
            LogUnavailable: nothing of it will be acknowledged; the log is poisoned.
        """
        ...

    def sync(self) -> None:
        """Make everything appended durable (fdatasync) and visible to tailing readers.

        Raises:
            LogUnavailable: the sync failed. It is never retried on that file.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What the index knows of a batch of identities, row by row.

    ``seq`` is the first copy's seq, 0 where the identity is new. ``same`` is true where the
    content digest equals the stored one (an exact duplicate without looking further).
    """

    seq: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]


class IdentityIndex(Protocol):
    """Which (source, id) were accepted by this node within the window. Exact.

    Derived from the log: after a crash it is rebuilt from its last checkpoint plus the log's tail.
    """

    @property
    def key(self) -> npt.NDArray[np.uint64]:
        """The two secret words that :func:`ingest.identity.identify` takes."""
        ...

    def probe(self, identities: Identities) -> Probed:
        """Look up a batch."""
        ...

    def insert(self, identities: Identities, *, first_seq: Seq, received_at: Micros) -> None:
        """Remember new identities, all different, numbered from ``first_seq`` in row order."""
        ...

    def void(self, seqs: Sequence[int]) -> None:
        """Mark accepted identities void, by seq. Idempotent."""
        ...

    def is_void(self, seqs: Sequence[int]) -> list[bool]:
        """Whether each accepted identity is void."""
        ...


class RecordReader(Protocol):
    """Random access to this node's own durable records, for conflict checks and look-ups."""

    def read(self, seqs: Sequence[int]) -> pl.DataFrame:
        """RECORDS of the given seqs, in ascending seq order."""
        ...
