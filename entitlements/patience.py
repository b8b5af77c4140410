"""How long a decision is asked again: openings and schedules may move while it is made."""

from __future__ import annotations

import asyncio
import time

from catalog.clock import Clock, Micros
from entitlements.ports import Status, Verdict

STALE_TRIES_MAX = 4
SEEDING_WAIT_S = 1.0
SEEDING_POLL_S = 0.01
"""A new contract's account is filled by the reader within moments: worth a short wait."""

SUBMIT_WITHIN_S = 0.2
"""A hold is followed by its record at once or not at all: a rebuild waits longer than this."""


class Patience:
    """One decision's tries. ``asked_s`` is when the last one was asked, monotonic seconds."""

    def __init__(self, *, until_s: float | None = None) -> None:
        """Begin; ``until_s``, by the same clock, is when to wait for an account no longer."""
        self.asked_s = time.monotonic()
        self._until_s = self.asked_s + SEEDING_WAIT_S if until_s is None else until_s
        self._tries = 0
        self._not_before = Micros(0)

    def now(self, clock: Clock) -> Micros:
        """The instant to decide at: never in a segment that another gateway has left."""
        self.asked_s = time.monotonic()
        return Micros(max(clock.now_us(), self._not_before))

    def in_time(self, now: Micros, lapses: Micros, *, within_s: float) -> bool:
        """Whether what was held may still be recorded at ``now``, by the log's time.

        Not long after it was asked, by a clock nobody sets: a rebuild waits that long. And before
        the hold may lapse: what the log takes after this comes behind its record.
        """
        return time.monotonic() - self.asked_s <= within_s and now < lapses

    async def again(self, verdict: Verdict) -> bool:
        """Whether to ask once more, after a pause where one helps."""
        match verdict.status:
            case Status.STALE | Status.BEHIND if self._tries < STALE_TRIES_MAX:
                self._tries += 1
                self._not_before = max(self._not_before, verdict.at)
                return True
            case Status.UNSEEDED if self.asked_s < self._until_s:
                await asyncio.sleep(SEEDING_POLL_S)
                return True
        return False
