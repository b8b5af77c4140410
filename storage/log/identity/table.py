"""The identities of the last while, in memory: a hash table that takes whole batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ingest.kernels import identities as kernels
from storage.log.identity.keys import SLICE_ROWS, Entries, Found, Keys
from storage.log.identity.pacing import Rest, no_rest


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
        self._table = np.zeros((slots, 4), np.uint64)

    def touch(self, rest: Rest = no_rest) -> None:
        """Have its memory given by the system now, where it is empty, and not by the first groups.

        They would wait for 4,096 page faults.
        """
        for start in range(0, len(self._table), SLICE_ROWS):
            self._table[start : start + SLICE_ROWS] = 0
            rest()

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

    def sorted(self) -> Iterator[Entries]:
        """All entries by ``low``, at most about ``SLICE_ROWS`` at a time."""
        slots = len(self._table)
        room = np.empty((self.count, 4), np.uint64)
        for start in range(0, slots, 2 * SLICE_ROWS):
            stop = min(slots, start + 2 * SLICE_ROWS)
            part = room[: kernels.sorted_part(self._table, start, stop, room)]
            low, high, content, seq = (column.copy() for column in part.T)
            yield Entries(Keys(low, high), content, seq.astype(np.int64))
