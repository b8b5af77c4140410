"""When a customer may use how much of a feature: the grant schedule, from the catalog alone.

A :class:`Term` is an entitlement as one contract gives it over a stretch of time; each of its
periods is a :class:`Grant`. A :class:`Segment` is the time between two neighbouring boundaries
(a reset, a grant becoming effective or expiring, a change of terms): inside it the active grants
are constant, so burning a segment's *total* is exact, whatever the order of its events.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.periods import FOREVER, Period, billing_periods
from catalog.pricebooks import Entitlement, Invoicing, Limit, Timing
from entitlements.amounts import to_nanos, to_text
from entitlements.given import GivenGrant

SEGMENTS_MAX = 4_096
"""How far back burn-down looks at most: over three hundred years of monthly resets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One immutable allotment, active in ``[effective, expires)``.

    ``amount`` is nano-units before rollover. ``previous`` is the grant whose remainder rolls over
    into this one, at most ``rollover_max``. ``resets``: another follows when it expires. ``given``
    is the id of the given grant it is (a part of), null for a contract's allowance.
    """

    id: str
    amount: int
    unlimited: bool
    limit: Limit
    priority: int
    effective: Micros
    expires: Micros
    resets: bool
    rollover_max: int | None = None
    previous: str | None = None
    given: str | None = None

    @property
    def burn_order(self) -> tuple[int, int, int, str]:
        """Lower burns first: priority, then the earlier expiry, then age."""
        return (self.priority, self.expires, self.effective, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An entitlement under one contract, whose term is ``[start, end)``; or a recurring grant.

    ``id`` is the same before and after a change of the amount, so that what was burned stays.
    ``given`` is the id of the given grant it is, null for a contract's.
    """

    id: str
    entitlement: Entitlement
    start: Micros
    end: Micros
    timezone: ZoneInfo
    given: str | None = None

    @classmethod
    def of_grant(cls, one: GivenGrant, *, timezone: ZoneInfo) -> Term:
        """A recurring given grant: an allowance of its own, until it expires or is revoked."""
        right = Entitlement(
            feature=one.feature,
            amount=Decimal(to_text(one.amount)),
            every_months=one.every_months,
            anchor=one.anchor,
            rollover_max=None if one.rollover_max is None else Decimal(to_text(one.rollover_max)),
            priority=one.priority,
        )
        return cls(
            id=one.id,
            entitlement=right,
            start=one.effective,
            end=one.until,
            timezone=timezone,
            given=one.id,
        )

    def grant_at(self, instant: int) -> Grant | None:
        """The grant of the period that holds ``instant``, None outside of the contract."""
        period = self._period(instant)
        if period is None:
            return None
        right = self.entitlement
        previous = None
        if right.rollover_max is not None and period.start > self.start:
            before = self._period(period.start - 1)
            previous = f"{self.id}@{before.start}" if before else None
        return Grant(
            id=f"{self.id}@{period.start}",
            amount=to_nanos(right.amount) if right.amount is not None else 0,
            unlimited=right.unlimited,
            limit=right.limit,
            priority=right.priority,
            effective=period.start,
            expires=period.end,
            resets=right.every_months is not None,
            rollover_max=None if right.rollover_max is None else to_nanos(right.rollover_max),
            previous=previous,
            given=self.given,
        )

    def _period(self, instant: int) -> Period | None:
        every = self.entitlement.every_months
        timing = Timing.ONCE if every is None else Timing.ARREARS
        found = billing_periods(
            start=self.start,
            end=None if self.end >= FOREVER else self.end,
            invoicing=Invoicing(timing=timing, every=every or 1, anchor=self.entitlement.anchor),
            timezone=self.timezone,
            since=Micros(instant),
            until=Micros(instant + 1),
        )
        return found[0] if found else None

    @property
    def boundaries(self) -> tuple[object, ...]:
        """What its grants' bounds depend on: amounts may change without moving any."""
        every = (self.entitlement.every_months, self.entitlement.anchor.value)
        return (self.id, self.start, self.end, self.timezone.key, every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Time in which the same terms and given grants hold: ``[since, until)``. Else it is a gap."""

    since: Micros
    until: Micros
    terms: tuple[Term, ...]
    given: tuple[GivenGrant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """``[start, end)`` with its active grants in burn order."""

    start: Micros
    end: Micros
    grants: tuple[Grant, ...]

    @property
    def unlimited(self) -> bool:
        """Whether any active grant is."""
        return any(grant.unlimited for grant in self.grants)

    @property
    def soft(self) -> bool:
        """Whether decisions may pass the allowance: one soft grant is enough."""
        return any(grant.limit is Limit.SOFT for grant in self.grants)


class Schedule:
    """One customer's grants of one feature, over all time. Immutable; segments are computed."""

    def __init__(self, stretches: Sequence[Stretch], *, reading: str) -> None:
        """Take stretches in order of time, without overlap.

        Args:
            stretches: from the first term on; a gap is a stretch without terms.
            reading: digest of which usage counts (meters, subjects): part of :attr:`digest`.
        """
        self.stretches = tuple(stretches)
        self._starts = [stretch.since for stretch in stretches]
        content = [
            (s.since, s.until, [term.boundaries for term in s.terms], [one.id for one in s.given])
            for s in stretches
        ]
        text = repr((content, reading))
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._last: Segment | None = None  # what was asked for last is mostly asked for again
        self._history: tuple[Segment, ...] = ()

    def segment_at(self, instant: int) -> Segment | None:
        """The segment that holds ``instant``; None before the first term."""
        last = self._last
        if last is not None and last.start <= instant < last.end:
            return last
        index = bisect_right(self._starts, instant) - 1
        if index < 0:
            return None
        stretch = self.stretches[index]
        if instant >= stretch.until:
            return None
        found = [grant for term in stretch.terms if (grant := term.grant_at(instant))]
        given = [self._given(one, instant) for one in stretch.given]
        segment = Segment(
            start=Micros(max([stretch.since, *(grant.effective for grant in found)])),
            end=Micros(min([stretch.until, *(grant.expires for grant in found)])),
            grants=tuple(sorted([*found, *given], key=lambda grant: grant.burn_order)),
        )
        self._last = segment
        return segment

    def _given(self, one: GivenGrant, instant: int) -> Grant:
        """A given grant at ``instant``: what a reset left of it is a grant of its own."""
        reset = None if one.rollover_max is None else self._last_reset(one.effective, instant)
        before = None if reset is None else self._last_reset(one.effective, reset - 1)
        return Grant(
            id=_piece(one, reset),
            amount=one.amount if reset is None else 0,
            unlimited=False,
            limit=Limit.HARD,
            priority=one.priority,
            effective=one.effective,
            expires=one.expires,
            resets=False,
            rollover_max=one.rollover_max,
            previous=None if reset is None else _piece(one, before),
            given=one.id,
        )

    def _last_reset(self, after: int, instant: int) -> Micros | None:
        """When an allowance of the feature was last given anew, in ``(after, instant]``."""
        for stretch in reversed(self.stretches[: bisect_right(self._starts, instant)]):
            if stretch.until <= after:
                return None
            at = min(instant, stretch.until - 1)
            found = [
                grant.effective
                for term in stretch.terms
                if term.given is None
                and (grant := term.grant_at(at)) is not None
                and grant.resets
                and grant.effective > max(after, term.start, stretch.since - 1)
            ]
            if found:
                return max(found)
        return None

    def segments(self, since: int, until: int) -> Iterator[Segment]:
        """The segments that meet ``[since, until)``, in order."""
        instant = max(since, self._starts[0]) if self._starts else until
        while instant < until and (segment := self.segment_at(instant)) is not None:
            yield segment
            instant = segment.end

    def history(self, instant: int) -> tuple[Segment, ...]:
        """The segment at ``instant``, preceded by those whose usage bears on its grants."""
        segment = self.segment_at(instant)
        if segment is None:
            return ()
        if self._history and self._history[-1] is segment:
            return self._history
        found = [segment]
        while len(found) < SEGMENTS_MAX:
            before = self.segment_at(found[-1].start - 1)
            if before is None or not _linked(before, found[-1]):
                break
            found.append(before)
        self._last, self._history = segment, tuple(found[::-1])
        return self._history


def _piece(one: GivenGrant, reset: Micros | None) -> str:
    return one.id if reset is None else f"{one.id}@{reset}"


def _linked(before: Segment, after: Segment) -> bool:
    """Whether anything of ``before`` is still felt in ``after``."""
    ids = {grant.id for grant in before.grants}
    return any(grant.id in ids or grant.previous in ids for grant in after.grants)
