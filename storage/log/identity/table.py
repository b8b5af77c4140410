"""The identities of the last while, in memory: a hash table that takes whole batches."""

from __future__ import annotations

import numpy as np

from ingest.kernels import identities as kernels
from storage.log.identity.keys import Entries, Found, Keys


class RecentTable:
    """A table with open addressing, at most half full at ``capacity``.

    One thread changes it; once frozen any may read it. ``settled_seq`` is set by then: up to there
    the log's voids were known, too.
    """

    def __init__(self, capacity: int) -> None:
        slots = 1 << (2 * capacity - 1).bit_length()
        self.capacity = capacity
        self.count = 0
        self.first_seq = self.last_seq = 0
        self.settled_seq = 0
        self.first_received_at = self.last_received_at = 0
        self._low = np.zeros(slots, np.uint64)
        self._high = np.zeros(slots, np.uint64)
        self._content = np.zeros(slots, np.uint64)
        self._seq = np.zeros(slots, np.int64)
        self._table = (self._low, self._high, self._content, self._seq)

    def probe(self, keys: Keys, found: Found) -> None:
        """Fill ``found`` for the rows that have nothing yet and are here."""
        if self.count:
            kernels.find(keys.low, keys.high, found.seq, found.content, self._table)

    def insert(self, entries: Entries, *, received: tuple[int, int]) -> None:
        """Add new identities, the first and last received at ``received``.

        They must not be here yet, must all be different, and must fit in.
        """
        self._note(entries, received)
        kernels.add(entries.keys.low, entries.keys.high, entries.seq, entries.content, self._table)

    def _note(self, entries: Entries, received: tuple[int, int]) -> None:
        if not self.count:
            self.first_seq, self.first_received_at = int(entries.seq[0]), received[0]
        self.count += len(entries.seq)
        self.last_seq, self.last_received_at = int(entries.seq[-1]), received[1]

    def sorted(self) -> Entries:
        """All entries, by ``low``."""
        used = np.flatnonzero(self._low)
        cell = used[np.argsort(self._low[used])]
        return Entries(
            Keys(self._low[cell], self._high[cell]), self._content[cell], self._seq[cell]
        )
