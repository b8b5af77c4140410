"""The bounded buffer between record() and the network. It does no I/O and knows no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tallyman_client._options import Options

EVENT_BYTES_EXTRA = 128
"""What an event costs in memory beyond its own bytes (objects and a slot), measured on 64 bits."""


class Batcher:
    """Takes encoded events, gives them out as batches, in the order taken.

    An event counts against the limits from ``add`` until its batch is ``settle``d, so what is
    under way is bounded too. Times are seconds of any one clock that does not go backwards.
    Not thread-safe: its owner has the lock.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._waiting_bytes = 0
        self.added = 0
        self.settled = 0
        self.pending_bytes = 0
        self._hurry_to = 0

    @property
    def pending(self) -> int:
        """How many events are waiting or under way."""
        return self.added - self.settled

    def has_room(self, event: bytes) -> bool:
        """Whether ``event`` can be added now.

        Raises:
            ValueError: it never could.
        """
        size = len(event) + EVENT_BYTES_EXTRA
        if size > self._options.buffer_bytes_max:
            raise ValueError(f"the event has {len(event)} bytes, more than the whole buffer")
        fits = self.pending_bytes + size <= self._options.buffer_bytes_max
        return fits and self.pending < self._options.buffer_events_max

    def add(self, event: bytes, now: float) -> bool:
        """Keep ``event``, for which there is room; answers whether whoever sends should look.

        That is when it begins a batch or fills one.
        """
        assert self.has_room(event)
        first = not self._waiting
        self._waiting.append((event, now))
        self._waiting_bytes += len(event) + 1
        self.pending_bytes += len(event) + EVENT_BYTES_EXTRA
        self.added += 1
        return first or self._is_full()

    def due_in(self, now: float) -> float | None:
        """Seconds until ``take`` gives a batch; 0 if it would now, None if nothing is waiting."""
        if not self._waiting:
            return None
        taken = self.added - len(self._waiting)
        if self._is_full() or taken < self._hurry_to:
            return 0.0
        return max(0.0, self._waiting[0][1] + self._options.batch_age_s_max - now)

    def take(self, now: float) -> tuple[bytes, ...] | None:
        """The next batch if one is due. Its events stay pending until they are settled."""
        if self.due_in(now) != 0.0:
            return None
        batch: list[bytes] = []
        size = 2
        while self._waiting and len(batch) < self._options.batch_events_max:
            event = self._waiting[0][0]
            if batch and size + len(event) + 1 > self._options.batch_bytes_max:
                break
            self._waiting.popleft()
            batch.append(event)
            size += len(event) + 1
        self._waiting_bytes -= sum(map(len, batch)) + len(batch)
        return tuple(batch)

    def settle(self, events: Sequence[bytes]) -> None:
        """These events of a batch need no more: delivered, refused or given up."""
        self.settled += len(events)
        self.pending_bytes -= sum(map(len, events)) + EVENT_BYTES_EXTRA * len(events)

    def restore(self, events: Sequence[bytes], now: float) -> None:
        """Put these events of a batch back in front of the others: they were not delivered."""
        self._waiting.extendleft((event, now) for event in reversed(events))
        self._waiting_bytes += sum(map(len, events)) + len(events)

    def drain(self) -> tuple[bytes, ...]:
        """Give up all that is waiting; answers it."""
        events = tuple(event for event, _ in self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self.settle(events)
        return events

    def hurry(self) -> int:
        """Make all that is waiting due; answers the ``settled`` at which it is all done."""
        self._hurry_to = self.added
        return self.added

    def _is_full(self) -> bool:
        full = len(self._waiting) >= self._options.batch_events_max
        return full or self._waiting_bytes + 2 > self._options.batch_bytes_max
