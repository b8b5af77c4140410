"""The buffer: nothing lost, doubled or reordered, and never over its bounds."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman_client import Options
from tallyman_client._batcher import EVENT_BYTES_EXTRA, Batcher
from tallyman_client._calls import batches

LIMITS = st.builds(
    Options,
    buffer_events_max=st.integers(1, 12),
    buffer_bytes_max=st.integers(400, 2_000),
    batch_events_max=st.integers(1, 6),
    batch_bytes_max=st.integers(1, 120),
    batch_age_s_max=st.sampled_from([0.0, 1.0, 5.0]),
)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 90)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 7.0])),
        st.tuples(st.sampled_from(["take", "settle", "restore", "hurry"]), st.just(0)),
    ),
    max_size=80,
)


class Model:
    """A batcher beside a plain list of what it should hold."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.batcher = Batcher(options)
        self.now = 0.0
        self.number = 0
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.under_way: deque[tuple[bytes, ...]] = deque()
        self.hurried: set[bytes] = set()

    def add(self, size: int) -> None:
        """Add one of a size, if and only if the list has room for it."""
        event = f"{self.number:04d}".encode() + b"x" * size
        held = [e for e, _ in self.waiting] + [e for batch in self.under_way for e in batch]
        size_after = sum(len(e) + EVENT_BYTES_EXTRA for e in [*held, event])
        fits = len(held) < self.options.buffer_events_max
        fits = fits and size_after <= self.options.buffer_bytes_max
        assert self.batcher.has_room(event) == fits
        if fits:
            self.number += 1
            self.batcher.add(event, self.now)
            self.waiting.append((event, self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def hurry(self, _: float) -> None:
        """Make all that waits due."""
        self.batcher.hurry()
        self.hurried |= {event for event, _ in self.waiting}

    def take(self, _: float) -> None:
        """Take a batch: there is one exactly when one is due."""
        due_s = self.batcher.due_in(self.now)
        batch = self.batcher.take(self.now)
        assert (batch is not None) == (due_s == 0.0) == self.is_due()
        if batch is None:
            return
        assert list(batch) == [self.waiting.popleft()[0] for _ in batch]
        assert 1 <= len(batch) <= self.options.batch_events_max
        body = 2 + sum(len(event) + 1 for event in batch)
        assert len(batch) == 1 or body <= self.options.batch_bytes_max
        self.under_way.append(batch)

    def is_due(self) -> bool:
        """Whether the list says that a batch is due."""
        if not self.waiting:
            return False
        event, since = self.waiting[0]
        body = 2 + sum(len(event) + 1 for event, _ in self.waiting)
        full = len(self.waiting) >= self.options.batch_events_max
        full = full or body > self.options.batch_bytes_max
        return full or event in self.hurried or self.now >= since + self.options.batch_age_s_max

    def settle(self, _: float) -> None:
        """End the oldest batch under way."""
        if self.under_way:
            self.batcher.settle(self.under_way.popleft())

    def restore(self, _: float) -> None:
        """Only the newest batch: one sender has one under way."""
        if len(self.under_way) == 1:
            batch = self.under_way.pop()
            self.batcher.restore(batch, self.now)
            self.waiting.extendleft((event, self.now) for event in reversed(batch))

    def check(self) -> None:
        """The accounts agree."""
        held = [event for event, _ in self.waiting]
        held += [event for batch in self.under_way for event in batch]
        assert self.batcher.pending == len(held)
        assert self.batcher.pending_bytes == sum(len(e) + EVENT_BYTES_EXTRA for e in held)
        assert self.batcher.pending_bytes <= self.options.buffer_bytes_max
        assert (self.batcher.due_in(self.now) is None) == (not self.waiting)


@given(options=LIMITS, moves=MOVES)
def test_it_behaves_like_a_list(options: Options, moves: list[tuple[str, float]]) -> None:
    """Whatever is done to it: order, limits, due times and accounts are those of a plain list."""
    model = Model(options)
    for name, argument in moves:
        getattr(model, name)(argument)
        model.check()


@given(options=LIMITS, moves=MOVES)
def test_at_the_end_all_comes_out(options: Options, moves: list[tuple[str, float]]) -> None:
    """After hurry, taking until nothing comes gives every event that has no outcome yet."""
    model = Model(options)
    for name, argument in moves:
        getattr(model, name)(argument)
    model.hurry(0)
    while model.waiting:
        model.take(0)
    while model.under_way:
        model.settle(0)
    assert (model.batcher.pending, model.batcher.pending_bytes) == (0, 0)
    assert model.batcher.settled == model.number


def test_an_event_that_can_never_fit_is_an_error() -> None:
    """It is not a matter of waiting."""
    with pytest.raises(ValueError, match="more than the whole buffer"):
        Batcher(Options(buffer_bytes_max=200)).has_room(b"x" * 200)


@given(
    events=st.lists(st.binary(max_size=60)),
    events_max=st.integers(1, 5),
    bytes_max=st.integers(1, 150),
)
def test_bulk_batches_keep_all_in_order(
    events: list[bytes], events_max: int, bytes_max: int
) -> None:
    """Batches of an iterable: all of it, in order, within the limits, none empty."""
    options = Options(batch_events_max=events_max, batch_bytes_max=bytes_max)
    made = list(batches(iter(events), options))
    assert [event for batch in made for event in batch] == events
    for batch in made:
        assert 1 <= len(batch) <= events_max
        assert len(batch) == 1 or 2 + sum(len(event) + 1 for event in batch) <= bytes_max
