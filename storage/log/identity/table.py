"""The identities of the last while, in memory: a hash table whose operations take whole batches."""

from __future__ import annotations

import numpy as np

from storage.log.identity.keys import U64, Entries, Found, Keys, Rows

_SLOTS = 8  # one cache line of low halves
_CHUNK_ROWS = 1 << 12  # temporaries stay in the cache


class RecentTable:
    """A table of buckets of eight slots, filled in order; a full bucket runs over into the next.

    Half full at ``capacity``: a batch is looked up in one or two rounds of a dozen vector
    operations, however many rows it has. One thread changes it; once frozen any may read it.
    ``settled_seq`` is set by then: up to there the log's voids were known, too.
    """

    def __init__(self, capacity: int) -> None:
        buckets = 1 << max(0, (2 * capacity // _SLOTS - 1).bit_length())
        self.capacity = capacity
        self.count = 0
        self.first_seq = self.last_seq = 0
        self.settled_seq = 0
        self.first_received_at = self.last_received_at = 0
        self._mask = np.uint64(buckets - 1)
        self._fill = np.zeros(buckets, np.uint8)
        self._claims = np.zeros(buckets, np.int32)
        self._low = np.zeros((buckets, _SLOTS), np.uint64)
        self._high = np.zeros(buckets * _SLOTS, np.uint64)
        self._content = np.zeros(buckets * _SLOTS, np.uint64)
        self._seq = np.zeros(buckets * _SLOTS, np.int64)

    def probe(self, keys: Keys, found: Found) -> None:
        """Fill ``found`` for the rows that have nothing yet and are here."""
        if not self.count:
            return
        wanted = np.flatnonzero(found.seq == 0)
        for at in range(0, wanted.size, _CHUNK_ROWS):
            rows = wanted[at : at + _CHUNK_ROWS]
            bucket = self._home(keys.high[rows])
            while rows.size:
                self._match(keys, found, rows, bucket)
                on = np.flatnonzero(
                    (np.take(self._fill, bucket) == _SLOTS) & (found.seq[rows] == 0)
                )
                rows, bucket = rows[on], self._next(bucket[on])

    def _match(self, keys: Keys, found: Found, rows: Rows, bucket: Rows) -> None:
        lines = np.take(self._low, bucket, axis=0)
        hit = np.flatnonzero(lines == np.take(keys.low, rows)[:, None])
        if not hit.size:
            return
        at = hit // _SLOTS
        cell = bucket[at] * _SLOTS + hit % _SLOTS
        whole = np.flatnonzero(self._high[cell] == keys.high[rows[at]])
        cell, row = cell[whole], rows[at[whole]]
        found.seq[row] = self._seq[cell]
        found.content[row] = self._content[cell]

    def _home(self, high: U64) -> Rows:
        return (high & self._mask).astype(np.intp)

    def _next(self, bucket: Rows) -> Rows:
        return (bucket + 1) & np.intp(self._mask)

    def insert(self, entries: Entries, *, received: tuple[int, int]) -> None:
        """Add new identities, the first and last received at ``received``.

        They must not be here yet, must all be different, and must fit in.
        """
        self._note(entries, received)
        for at in range(0, len(entries.seq), _CHUNK_ROWS):
            self._insert(entries.part(at, at + _CHUNK_ROWS))

    def _insert(self, entries: Entries) -> None:
        rows = np.arange(len(entries.seq))
        bucket = self._home(entries.keys.high)
        while rows.size:
            full = np.take(self._fill, bucket) == _SLOTS
            if full.any():
                bucket = np.where(full, self._next(bucket), bucket)
                continue
            # Rows that want the same bucket: the last to claim it wins, the others go again.
            self._claims[bucket] = rows
            won = np.take(self._claims, bucket) == rows
            if won.all():
                self._store(entries, bucket)
                return
            self._store(entries.take(np.flatnonzero(won)), bucket[won])
            lost = np.flatnonzero(~won)
            entries, bucket, rows = entries.take(lost), bucket[lost], rows[: lost.size]

    def _store(self, entries: Entries, bucket: Rows) -> None:
        cell = bucket * _SLOTS + np.take(self._fill, bucket)
        self._low.reshape(-1)[cell] = entries.keys.low
        self._high[cell] = entries.keys.high
        self._content[cell] = entries.content
        self._seq[cell] = entries.seq
        self._fill[bucket] += 1

    def _note(self, entries: Entries, received: tuple[int, int]) -> None:
        if not self.count:
            self.first_seq, self.first_received_at = int(entries.seq[0]), received[0]
        self.count += len(entries.seq)
        self.last_seq, self.last_received_at = int(entries.seq[-1]), received[1]

    def sorted(self) -> Entries:
        """All entries, by ``low``."""
        low = self._low.reshape(-1)
        used = np.flatnonzero(low)
        cell = used[np.argsort(low[used])]
        return Entries(Keys(low[cell], self._high[cell]), self._content[cell], self._seq[cell])
