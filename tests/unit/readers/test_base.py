"""The life of a reader."""

from __future__ import annotations

import threading

from api.readers.base import Pace, Reader
from catalog.ids import NodeId, Seq
from tests.logs_in_memory import MemoryTail, event

FAST = Pace(poll_s=0.001, backoff_s_min=0.001, backoff_s_max=0.01)


class Counting(Reader):
    """Applies one record a step and fails as often as it is told to."""

    def __init__(self, tail: MemoryTail, *, failures: int = 0) -> None:
        super().__init__(name="counting", tails=lambda: {tail.node: tail}, pace=FAST)
        self.tail, self.failures, self.place = tail, failures, 0
        self.level = threading.Event()
        self.failed = threading.Event()

    def step(self) -> bool:
        """Apply one record, or fail."""
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise ConnectionError("down")
        if self.place == self.tail.durable().seq:
            self.level.set()
            return False
        self.place += 1
        return True

    def positions(self) -> dict[NodeId, Seq]:
        """How many were applied."""
        return {self.tail.node: Seq(self.place)}


def tail_of(count: int) -> MemoryTail:
    """A log of so many events."""
    tail = MemoryTail()
    tail.append(*(event() for _ in range(count)))
    return tail


def test_it_steps_until_level_and_then_waits_for_more():
    """The lag falls to nothing, and what comes later is picked up."""
    tail = tail_of(3)
    reader = Counting(tail)
    assert reader.lag == {"n1": 3}
    reader.start()
    try:
        assert reader.level.wait(5)
        assert reader.lag == {"n1": 0}
        tail.append(event())
        reader.level.clear()
        reader.wake()
        assert reader.level.wait(5)
        assert reader.positions() == {"n1": 4}
    finally:
        reader.stop()


def test_a_failing_step_is_taken_again_and_shows():
    """Failures are retried with nothing skipped; the last one is named until it works again."""
    reader = Counting(tail_of(2), failures=3)
    reader.start()
    try:
        assert reader.failed.wait(5)
        assert reader.level.wait(5)
        assert reader.positions() == {"n1": 2}
        assert reader.failure is None
    finally:
        reader.stop()


def test_it_stops_in_the_middle_of_failing():
    """A reader whose engine never comes back still ends when it is told to, naming the cause."""
    reader = Counting(tail_of(1), failures=10**9)
    reader.start()
    assert reader.failed.wait(5)
    reader.stop(timeout_s=5)
    assert reader._thread is not None
    assert not reader._thread.is_alive()
    assert reader.failure == "ConnectionError: down"
