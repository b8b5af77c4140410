"""128 bits that stand for one (source, id)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

SLICE_ROWS = 1 << 13
"""What is written at once, in half a millisecond: who shares the core waits no longer."""


class Keys(NamedTuple):
    """One key a row, in two halves. ``low`` is never 0, which marks an empty slot."""

    low: U64
    high: U64

    def take(self, rows: Rows) -> Keys:
        """The keys of these rows."""
        return Keys(self.low[rows], self.high[rows])


class Entries(NamedTuple):
    """Identities with what is known of them, column by column."""

    keys: Keys
    content: U64
    seq: I64

    def take(self, rows: Rows) -> Entries:
        """The entries of these rows."""
        return Entries(self.keys.take(rows), self.content[rows], self.seq[rows])

    def part(self, start: int, stop: int) -> Entries:
        """The entries of rows ``[start, stop)``, not copied."""
        rows = slice(start, stop)
        keys = Keys(self.keys.low[rows], self.keys.high[rows])
        return Entries(keys, self.content[rows], self.seq[rows])


class Found(NamedTuple):
    """What a look-up fills in, row by row: ``seq`` 0 where nothing was found."""

    seq: I64
    content: U64

    @classmethod
    def nothing(cls, rows: int) -> Found:
        """Nothing found yet."""
        return cls(np.zeros(rows, np.int64), np.zeros(rows, np.uint64))
