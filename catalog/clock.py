"""Time is an argument: whoever needs it is handed a :class:`Clock`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NewType, Protocol

Micros = NewType("Micros", int)
"""Microseconds since 1970-01-01T00:00:00Z. Instants are compared and stored as these."""

EVER = Micros(2**62)
"""Later than every instant: as of everything there is."""

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where the time comes from: the machine, a sandbox, or a test."""

    def now_us(self) -> Micros:
        """The current instant. May step backwards; whoever needs more must enforce it."""
        ...


class FixedClock:
    """A clock that moves only when told to, for tests and stateless previews."""

    def __init__(self, now_us: int) -> None:
        self._now_us = Micros(now_us)

    def now_us(self) -> Micros:
        """The instant it was last set to."""
        return self._now_us

    def set(self, now_us: int) -> None:
        """Move to ``now_us``, forwards or backwards."""
        self._now_us = Micros(now_us)


class LogicalClock:
    """A clock that never falls behind what its owner has observed elsewhere (Lamport).

    Instants given in one process then order after instants it has seen from another, also while
    the machine's clock steps back or a sandbox's stands still.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._observed = Micros(0)

    def now_us(self) -> Micros:
        """The clock's instant, or the latest observed one where that is later."""
        return max(self._clock.now_us(), self._observed)

    def observe(self, instant: Micros) -> None:
        """From now on answer ``instant`` or later."""
        self._observed = max(self._observed, instant)


def to_datetime(instant: int) -> datetime:
    """``instant`` as an aware UTC datetime, exact to the microsecond."""
    return EPOCH + timedelta(microseconds=instant)


def to_micros(moment: datetime) -> Micros:
    """An aware datetime as :data:`Micros`, exact (no float on the way)."""
    delta = moment - EPOCH
    return Micros((delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds)


def to_rfc3339(instant: int) -> str:
    """``instant`` as RFC 3339 UTC: ``2026-11-03T10:15:00.120000Z``, no fraction when whole."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")
