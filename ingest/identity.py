"""Who an event is, and what it says: what an :class:`ingest.ports.IdentityIndex` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.kernels.identities import first_rows
from ingest.kernels.strings import hash_pairs, hash_rows

U64 = npt.NDArray[np.uint64]

_CONTENT_KEY = np.array([0x7A11, 0x7A12], np.uint64)
_NOT_GIVEN = np.int64(-(2**63))


@dataclass(frozen=True, slots=True)
class Identities:
    """One row an event: 128 bits that stand for its (source, id), and a digest of its content.

    ``low`` is never 0. Equal contents (64 bits, within one identity) are taken for equal; different
    ones prove nothing, for data may be the same JSON spelled another way.
    """

    low: U64
    high: U64
    content: U64

    def __len__(self) -> int:
        return len(self.low)

    def keep(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Identities:
        """Only the given rows."""
        return Identities(self.low[rows], self.high[rows], self.content[rows])

    def first(self) -> npt.NDArray[np.int64]:
        """Of each row the first that has its identity: itself, unless it is a copy."""
        slots = np.full(1 << (2 * len(self) + 1).bit_length(), -1, np.int32)
        first = np.empty(len(self), np.int64)
        first_rows(self.low, self.high, slots, first)
        return first


def identify(source: pa.StringArray, id: pa.StringArray, *, key: U64) -> tuple[U64, U64]:  # noqa: A002
    """The two halves of identities, under two secret words: nobody can choose ids that collide.

    ("ab", "c") and ("a", "bc") have nothing in common.
    """
    low, high = np.empty(len(source), np.uint64), np.empty(len(source), np.uint64)
    hash_pairs(addresses([source, id]), key, low, high)
    return np.maximum(low, np.uint64(1)), high


def digest(records: pa.RecordBatch) -> U64:
    """A digest of what an exact copy repeats: type, subject, time if given, and the data's text."""
    given = records.column("time_given").to_numpy(zero_copy_only=False)
    micros = _int64(records.column("time"))
    numbers = micros if given.all() else np.where(given, micros, _NOT_GIVEN)
    out = np.empty(records.num_rows, np.uint64)
    columns = [records.column(name) for name in ("type", "subject", "data")]
    hash_rows(addresses(columns), numbers, _CONTENT_KEY, out)
    return out


def _int64(column: pa.Array) -> npt.NDArray[np.int64]:
    """The numbers of a column, whatever stands where it is null."""
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]


def addresses(columns: Sequence[pa.StringArray]) -> npt.NDArray[np.int64]:
    """Of each column the address of its bytes and of its offsets, as kernels take them."""
    found = []
    for column in columns:
        _, offsets, texts = column.buffers()
        found += [0 if texts is None else texts.address, offsets.address + 4 * column.offset]
    return np.array(found, np.int64)
