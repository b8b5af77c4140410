"""Which share of a billing period's terms a part of it bears."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.periods import FOREVER, Period, local_date
from catalog.pricebooks import Prorate

WHOLE = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of what is stated for a period is due: of the allowances, and of the fee.

    ``included`` scales the included units, ``terms`` minimum and maximum, ``fee`` what is charged
    (with the units it is charged for, so a fixed quantity's included units stay whole).
    """

    included: Fraction = WHOLE
    terms: Fraction = WHOLE
    fee: Fraction = WHOLE


def usage_share(
    period: Period, start: Micros, end: Micros, *, prorate: Prorate, timezone: ZoneInfo
) -> Share:
    """The share of a metered part ``[start, end)``: usage is what it is, allowances are shared.

    By seconds among the parts of one billing period; of the whole period (before the contract's
    start and end cut it) only where the price is prorated.
    """
    if prorate is Prorate.NO:
        share = _seconds(start, end, period.start, period.end)
    else:
        share = in_force(period, start, end, prorate=prorate, timezone=timezone)
    return Share(included=share, terms=share)


def fee_share(
    period: Period, start: Micros, end: Micros, *, prorate: Prorate, timezone: ZoneInfo
) -> Share:
    """The share of a fixed fee over the part ``[start, end)``: all of it unless prorated."""
    if prorate is Prorate.NO:
        return Share()
    share = in_force(period, start, end, prorate=prorate, timezone=timezone)
    return Share(terms=share, fee=share)


def in_force(
    period: Period, start: Micros, end: Micros, *, prorate: Prorate, timezone: ZoneInfo
) -> Fraction:
    """``[start, end)`` over the whole period, in local days or in seconds.

    A day belongs to the part that it begins in, so the days of the parts are those of the whole.
    """
    if prorate is Prorate.DAYS and period.whole_end != FOREVER:
        days = local_date(end, timezone) - local_date(start, timezone)
        whole = local_date(period.whole_end, timezone) - local_date(period.whole_start, timezone)
        return Fraction(days.days, whole.days)
    return _seconds(start, end, period.whole_start, period.whole_end)


def _seconds(start: int, end: int, whole_start: int, whole_end: int) -> Fraction:
    """A share by time; a period without an end is never split by time."""
    if whole_end == FOREVER or (start, end) == (whole_start, whole_end):
        return WHOLE
    return Fraction(end - start, whole_end - whole_start)
