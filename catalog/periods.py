"""Billing periods and accounting periods: which stretch of time a line covers, and where it counts.

All intervals are half-open. Boundaries are local times of the calendar that bills (a contract's
time zone), so a month is a month and a day is a day also where the clocks change.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from catalog.clock import Micros, to_datetime, to_micros
from catalog.errors import InvalidRequest
from catalog.pricebooks import Anchor, Invoicing, PeriodUnit, Timing
from catalog.snapshot import midnight

FOREVER = to_micros(datetime.fromisoformat("9999-12-30T00:00:00+00:00"))
"""The end of a period that has none: a contract without an end, billed once."""

_EPOCH_MONTH = 2000 * 12
_EPOCH_DAY = {PeriodUnit.DAY: date(2000, 1, 1), PeriodUnit.WEEK: date(2000, 1, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One billing period ``[start, end)``, the ``index``-th of its price, counted from 1.

    ``[whole_start, whole_end)`` is the period as the cadence has it, before the contract's start
    and end cut it: what a share is a share of. ``end`` is :data:`FOREVER` where there is none.
    """

    index: int
    start: Micros
    end: Micros
    whole_start: Micros
    whole_end: Micros


class _Cadence(Protocol):
    """A ladder of boundaries: step 0 is where the first period begins, uncut."""

    def boundary(self, step: int) -> Micros: ...

    def step_near(self, instant: int) -> int:
        """A step not after the period that holds ``instant``, and at most a few before it."""
        ...


def billing_periods(
    *,
    start: Micros,
    end: Micros | None,
    invoicing: Invoicing,
    timezone: ZoneInfo,
    since: Micros,
    until: Micros,
) -> list[Period]:
    """The billing periods of a contract over ``[start, end)`` that meet ``[since, until)``.

    Anchored on the contract, every boundary is counted from the original day (31 January, 28
    February, 31 March). Anchored on a month, every boundary is the first day of one, counted from
    the month of ``start`` or ``after_months`` later. Anchored on the calendar, boundaries are first
    days of months (Mondays, days), every n of them counted from January 2000 (Monday 3 January, 1
    January). On a month or the calendar the first and last period may be partial. The work depends
    on the range asked for, not on ``start``.
    """
    last = FOREVER if end is None else end
    first = _first(start, invoicing, timezone)
    if first >= last:
        return []
    if invoicing.timing is Timing.ONCE:
        once = Period(index=1, start=first, end=last, whole_start=first, whole_end=last)
        return [once] if first < until and since < last else []
    cadence = _cadence(start=start, first=first, invoicing=invoicing, timezone=timezone)
    bounds = max(since, first), min(until, last)
    found = _walk(cadence, since=bounds[0], until=bounds[1])
    return [
        Period(
            index=step + 1,
            start=Micros(max(whole_start, first)),
            end=Micros(min(whole_end, last)),
            whole_start=whole_start,
            whole_end=whole_end,
        )
        for step, whole_start, whole_end in found
    ]


def period_start(index: int, *, start: Micros, invoicing: Invoicing, timezone: ZoneInfo) -> Micros:
    """Where the ``index``-th billing period (from 1) of a contract from ``start`` on begins.

    :data:`FOREVER` for any but the first where a price is billed once.
    """
    first = _first(start, invoicing, timezone)
    if index <= 1:
        return first
    if invoicing.timing is Timing.ONCE:
        return FOREVER
    cadence = _cadence(start=start, first=first, invoicing=invoicing, timezone=timezone)
    return max(first, cadence.boundary(index - 1))


def _walk(cadence: _Cadence, *, since: int, until: int) -> Iterator[tuple[int, Micros, Micros]]:
    """Steps of ``cadence`` that meet ``[since, until)``, empty ones (a skipped day) left out."""
    if since >= until:
        return
    step = max(0, cadence.step_near(since))
    left = cadence.boundary(step)
    while left < until:
        right = cadence.boundary(step + 1)
        if right > since and right > left:
            yield step, left, right
        step, left = step + 1, right


@dataclass(frozen=True, slots=True)
class _Months:
    """Boundaries every ``every`` months on ``day`` at ``clock``, or the month's last day."""

    origin: int
    every: int
    day: int
    clock: time
    timezone: ZoneInfo

    def boundary(self, step: int) -> Micros:
        month = self.origin + step * self.every
        year, zero_based = divmod(month, 12)
        if year >= 9999:
            return FOREVER
        day = min(self.day, calendar.monthrange(year, zero_based + 1)[1])
        return _instant(date(year, zero_based + 1, day), self.clock, self.timezone)

    def step_near(self, instant: int) -> int:
        local = to_datetime(instant).astimezone(self.timezone)
        return (local.year * 12 + local.month - 1 - self.origin) // self.every - 1


@dataclass(frozen=True, slots=True)
class _Days:
    """Boundaries every ``every`` days from ``origin`` at ``clock``."""

    origin: date
    every: int
    clock: time
    timezone: ZoneInfo

    def boundary(self, step: int) -> Micros:
        ordinal = self.origin.toordinal() + step * self.every
        if ordinal >= date(9999, 1, 1).toordinal():
            return FOREVER
        return _instant(date.fromordinal(ordinal), self.clock, self.timezone)

    def step_near(self, instant: int) -> int:
        local = to_datetime(instant).astimezone(self.timezone).date()
        return (local - self.origin).days // self.every - 1


@dataclass(frozen=True, slots=True)
class _From:
    """``ladder`` renumbered so that step 0 is ``offset``, and begins at ``first`` exactly.

    A first boundary that the clock change doubled is ``first`` itself, not its twin an hour off.
    """

    ladder: _Months | _Days
    offset: int
    first: Micros | None

    def boundary(self, step: int) -> Micros:
        if step == 0 and self.first is not None:
            return self.first
        return self.ladder.boundary(step + self.offset)

    def step_near(self, instant: int) -> int:
        return self.ladder.step_near(instant) - self.offset


def _cadence(*, start: Micros, first: Micros, invoicing: Invoicing, timezone: ZoneInfo) -> _Cadence:
    if invoicing.anchor is Anchor.CALENDAR:
        ladder = _calendar_ladder(invoicing, timezone)
        offset = ladder.step_near(first)
        while ladder.boundary(offset + 1) <= first:
            offset += 1
        return _From(ladder, offset, None)
    local = to_datetime(start).astimezone(timezone)
    if invoicing.unit is PeriodUnit.MONTH:
        origin = local.year * 12 + local.month - 1 + invoicing.after_months
        if invoicing.anchor is Anchor.MONTH:
            return _From(_Months(origin, invoicing.every, 1, time(), timezone), 0, None)
        return _From(_Months(origin, invoicing.every, local.day, local.time(), timezone), 0, first)
    begun = to_datetime(first).astimezone(timezone)
    every = invoicing.every * (7 if invoicing.unit is PeriodUnit.WEEK else 1)
    return _From(_Days(begun.date(), every, begun.time(), timezone), 0, first)


def _calendar_ladder(invoicing: Invoicing, timezone: ZoneInfo) -> _Months | _Days:
    if invoicing.unit is PeriodUnit.MONTH:
        return _Months(_EPOCH_MONTH, invoicing.every, 1, time(), timezone)
    every = invoicing.every * (7 if invoicing.unit is PeriodUnit.WEEK else 1)
    return _Days(_EPOCH_DAY[invoicing.unit], every, time(), timezone)


def _first(start: Micros, invoicing: Invoicing, timezone: ZoneInfo) -> Micros:
    """Where the first period begins, cut."""
    shifted = _shifted(start, invoicing.after_months, timezone)
    if invoicing.anchor is not Anchor.MONTH:
        return shifted
    month = local_date(shifted, timezone).replace(day=1)
    return max(start, midnight(month, timezone))


def _shifted(start: Micros, months: int, timezone: ZoneInfo) -> Micros:
    if months == 0:
        return start
    local = to_datetime(start).astimezone(timezone)
    origin = local.year * 12 + local.month - 1
    return _Months(origin, months, local.day, local.time(), timezone).boundary(1)


def _instant(day: date, clock: time, timezone: ZoneInfo) -> Micros:
    """A local time as an instant, read as :func:`catalog.snapshot.resolve` reads midnights."""
    return to_micros(datetime.combine(day, clock.replace(fold=0), tzinfo=timezone))


def local_date(instant: int, timezone: ZoneInfo) -> date:
    """The calendar day of ``instant`` in ``timezone``."""
    return to_datetime(instant).astimezone(timezone).date()


def accounting_date(period: Period, *, timing: Timing, usage: bool, timezone: ZoneInfo) -> date:
    """The one day a billing period counts on: the last local day of it, or the first.

    The last for arrears and for ``usage`` billed once, the first for advance and for what is
    billed once without usage. The last day of a period without an end is in the year 9999.
    """
    if timing is Timing.ARREARS or (timing is Timing.ONCE and usage):
        return local_date(period.end - 1, timezone)
    return local_date(period.start, timezone)


_SPEC = re.compile(r"(\d{4})(?:-(?:Q([1-4])|(\d{2})(?:-(\d{2}))?))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodSpec:
    """A span of accounting dates ``[first, until)``, read on each contract's own calendar."""

    text: str
    first: date
    until: date

    @classmethod
    def parse(cls, text: str) -> PeriodSpec:
        """Read ``YYYY``, ``YYYY-Qn``, ``YYYY-MM`` or ``YYYY-MM-DD``.

        Raises:
            InvalidRequest: it is none of these, or lies outside the years 1970 to 2199.
        """
        match = _SPEC.fullmatch(text) if text.isascii() else None
        if match is None or not 1970 <= int(match[1]) < 2200:
            raise InvalidRequest(f"not a period: {text!r} (YYYY, YYYY-Qn, YYYY-MM or YYYY-MM-DD)")
        year, quarter, month, day = match.groups()
        length = 3 if quarter else 1 if month else 12
        first_month = int(month) if month else 3 * int(quarter or 1) - 2
        try:
            first = date(int(year), first_month, int(day or 1))
        except ValueError as wrong:
            raise InvalidRequest(f"no such period: {text!r}") from wrong
        if day:
            return cls(text=text, first=first, until=first + timedelta(days=1))
        following = first.year * 12 + first.month - 1 + length
        return cls(text=text, first=first, until=date(following // 12, following % 12 + 1, 1))

    def holds(self, day: date) -> bool:
        """Whether an accounting date lies in it."""
        return self.first <= day < self.until

    def bounds(self, timezone: ZoneInfo) -> tuple[Micros, Micros]:
        """Its first instant and the one after its last, in ``timezone``."""
        return midnight(self.first, timezone), midnight(self.until, timezone)
