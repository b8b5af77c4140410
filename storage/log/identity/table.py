"""The identities of the last while, in memory: a hash table whose operations take whole batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from storage.log.identity.keys import Entries, Found, Keys

_SLOTS = 8  # one cache line of low halves
_EMPTY = np.uint64(0)


class RecentTable:
    """A table of buckets of eight slots, filled in order; a full bucket runs over into the next.

    Half full at ``capacity``: a batch is looked up in one or two rounds of a dozen vector
    operations, however many rows it has. One thread changes it; once frozen any may read it.
    """

    def __init__(self, capacity: int) -> None:
        buckets = 1 << max(0, (2 * capacity // _SLOTS - 1).bit_length())
        self.capacity = capacity
        self.count = 0
        self.first_seq = self.last_seq = 0
        self.first_received_at = self.last_received_at = 0
        self._mask = np.uint64(buckets - 1)
        self._fill = np.zeros(buckets, np.uint8)
        self._claims = np.zeros(buckets, np.int32)
        self._low = np.zeros((buckets, _SLOTS), np.uint64)
        self._high = np.zeros((buckets, _SLOTS), np.uint64)
        self._content = np.zeros((buckets, _SLOTS), np.uint64)
        self._seq = np.zeros((buckets, _SLOTS), np.int64)

    def _home(self, keys: Keys) -> npt.NDArray[np.intp]:
        return (keys.high & self._mask).astype(np.intp)

    def probe(self, keys: Keys, found: Found, rows: npt.NDArray[np.intp] | None = None) -> None:
        """Fill ``found`` for the keys that are here; with ``rows``, look at those only."""
        if not self.count:
            return
        rows = np.arange(len(keys.low)) if rows is None else rows
        bucket = self._home(keys)[rows]
        while rows.size:
            hit = self._low[bucket] == keys.low[rows, None]
            self._match(hit, bucket, rows, keys, found)
            on = (self._fill[bucket] == _SLOTS) & (found.seq[rows] == 0)
            rows, bucket = rows[on], self._next(bucket[on])

    def _match(
        self,
        hit: npt.NDArray[np.bool_],
        bucket: npt.NDArray[np.intp],
        rows: npt.NDArray[np.intp],
        keys: Keys,
        found: Found,
    ) -> None:
        at, slot = np.nonzero(hit)
        if not at.size:
            return
        whole = self._high[bucket[at], slot] == keys.high[rows[at]]
        at, slot = at[whole], slot[whole]
        found.seq[rows[at]] = self._seq[bucket[at], slot]
        found.content[rows[at]] = self._content[bucket[at], slot]

    def _next(self, bucket: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        return (bucket + 1) & np.intp(self._mask)

    def insert(self, entries: Entries, *, received: tuple[int, int]) -> None:
        """Add new identities, the first and last received at ``received``.

        They must not be here yet, must all be different, and must fit in.
        """
        self._note(entries, received)
        rows = np.arange(len(entries.seq))
        bucket = self._home(entries.keys)
        while rows.size:
            full = self._fill[bucket] == _SLOTS
            if full.any():
                bucket = np.where(full, self._next(bucket), bucket)
                continue
            # Rows that want the same bucket: the last to claim it wins, the others go again.
            self._claims[bucket] = rows
            won = self._claims[bucket] == rows
            self._store(entries, rows[won], bucket[won])
            rows, bucket = rows[~won], bucket[~won]

    def _store(
        self, entries: Entries, rows: npt.NDArray[np.intp], bucket: npt.NDArray[np.intp]
    ) -> None:
        slot = self._fill[bucket]
        self._low[bucket, slot] = entries.keys.low[rows]
        self._high[bucket, slot] = entries.keys.high[rows]
        self._content[bucket, slot] = entries.content[rows]
        self._seq[bucket, slot] = entries.seq[rows]
        self._fill[bucket] += 1

    def _note(self, entries: Entries, received: tuple[int, int]) -> None:
        if not self.count:
            self.first_seq, self.first_received_at = int(entries.seq[0]), received[0]
        self.count += len(entries.seq)
        self.last_seq, self.last_received_at = int(entries.seq[-1]), received[1]

    def sorted(self) -> Entries:
        """All entries, by ``low``."""
        used = self._low != _EMPTY
        low = self._low[used]
        order = np.argsort(low)
        keys = Keys(low[order], self._high[used][order])
        return Entries(keys, self._content[used][order], self._seq[used][order])
