"""Identities numbered 0, 1, 2, …, all different: any of them can be made again from its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

U64 = npt.NDArray[np.uint64]
KEY_BYTES = 16


def mixed(numbers: U64) -> U64:
    """splitmix64: a permutation of the 64-bit numbers that looks random."""
    x = numbers + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """A batch. ``keys`` are the 16 bytes each id spells in hex: a hash that costs nobody anything."""

    numbers: U64
    keys: pl.Series
    frame: pl.DataFrame

    @property
    def count(self) -> int:
        """How many."""
        return len(self.numbers)


def identities(numbers: U64) -> Identities:
    """The identities of these numbers; ``frame`` is what an IdentityIndex is asked about."""
    halves = np.column_stack([mixed(numbers * np.uint64(2)), mixed(numbers * np.uint64(2) + 1)])
    content = pa.py_buffer(np.ascontiguousarray(halves))
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(KEY_BYTES), len(numbers), [None, content]
    )
    keys = pl.from_arrow(column.cast(pa.binary()))
    assert isinstance(keys, pl.Series)
    frame = pl.DataFrame({"key": keys, "content": mixed(~numbers)}).select(
        source=pl.lit("gateway"),
        id=pl.lit("req-") + pl.col("key").bin.encode("hex"),
        content="content",
    )
    return Identities(numbers=numbers, keys=keys, frame=frame)


def batches(start: int, stop: int, size: int) -> Iterator[Identities]:
    """The identities from number ``start`` to before ``stop``, ``size`` at a time."""
    for at in range(start, stop, size):
        yield identities(np.arange(at, min(at + size, stop), dtype=np.uint64))
