"""128 bits that stand for one (source, id)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

SEED_BITS = 63
_PARALLEL_ROWS = 20_000  # from here on Polars' thread pool is worth waking
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


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


class KeyHash:
    """Hashes identities with Polars, every part under a seed of its own.

    Source and id are hashed apart, so that ("ab", "c") and ("a", "bc") have nothing in common.
    The seeds are secret per node: nobody can send ids that collide on purpose. Other versions of
    Polars may hash otherwise.
    """

    def __init__(self, seeds: tuple[int, ...]) -> None:
        names = ("source", "id", "source", "id")
        self._parts = [
            pl.col(name).hash(seed).alias(str(seed))
            for name, seed in zip(names, seeds, strict=True)
        ]

    def __call__(self, identities: pl.DataFrame) -> Keys:
        """The key of every row; ``identities`` has columns ``source`` and ``id``."""
        select = identities.select if identities.height > _PARALLEL_ROWS else identities.select_seq
        parts = [column.to_numpy() for column in select(self._parts).get_columns()]
        low = parts[0] * _SPREAD + parts[1]
        high = parts[2] * _SPREAD + parts[3]
        return Keys(np.maximum(low, np.uint64(1)), high)
