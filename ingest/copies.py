"""Copies that no gateway could see: which of the events that were accepted count.

A gateway knows what it accepted itself, and for a window of receipt. Where two gateways accepted
one identity, or a copy comes back after the window, one of them counts: the first. The rule looks
at events in the order (received_at, node, seq) and remembers those that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from catalog.clock import DAY_US
from ingest.dedupe import same_content

Identity = tuple[str, str]
"""(source, id)."""


class Place(NamedTuple):
    """Where an event is in the logs."""

    node: str
    seq: int


class Received(NamedTuple):
    """An accepted event, with what decides whether another one is a copy of it.

    ``received_at`` and ``time`` are microseconds. The names are those of RECORDS.
    """

    node: str
    seq: int
    received_at: int
    source: str
    id: str
    type: str
    subject: str
    time: int
    time_given: bool
    data: str

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self.source, self.id

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.node, self.seq)


class Copied(NamedTuple):
    """A copy, and the event that counts for both. ``conflict``: they do not say the same."""

    copy: Received
    counted: Received
    conflict: bool


def is_copy(event: Received, counted: Received, *, window_us: int) -> bool:
    """Whether ``event`` is a copy of one with its identity that counts.

    It is when both were received within the window of each other, or are of one UTC day by their
    own ``time``.
    """
    if abs(event.received_at - counted.received_at) <= window_us:
        return True
    return event.time // DAY_US == counted.time // DAY_US


def copies_among(
    events: Iterable[Received], counted: dict[Identity, list[Received]], *, window_us: int
) -> Iterator[Copied]:
    """The copies among ``events``, given in order.

    ``counted`` holds what is known to count of their identities, in order; those of ``events``
    that are no copies are added to it.
    """
    for event in events:
        others = counted.setdefault(event.identity, [])
        first = next((one for one in others if is_copy(event, one, window_us=window_us)), None)
        if first is None:
            others.append(event)
        else:
            yield Copied(event, first, conflict=not same_content(event._asdict(), first._asdict()))
