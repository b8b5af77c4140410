"""Billing periods against a naive oracle, and the dates people trip over."""

from __future__ import annotations

import calendar
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.clock import Micros, to_datetime, to_micros
from catalog.errors import InvalidRequest
from catalog.periods import (
    FOREVER,
    Period,
    PeriodSpec,
    accounting_date,
    billing_periods,
)
from catalog.pricebooks import Anchor, Invoicing, PeriodUnit, Timing
from catalog.snapshot import resolve

ARREARS = Timing.ARREARS
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu")
]


def instant(text: str, zone: str = "UTC") -> Micros:
    """A local time in ``zone`` as an instant."""
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def days_of(periods: list[Period], zone: str = "UTC") -> list[str]:
    """First and last local day of each period, for reading."""
    return [
        f"{to_datetime(p.start).astimezone(ZoneInfo(zone)):%Y-%m-%d}.."
        f"{to_datetime(p.end).astimezone(ZoneInfo(zone)):%Y-%m-%d}"
        for p in periods
    ]


def periods(start: str, end: str | None, invoicing: Invoicing, *, zone: str = "UTC"):
    """Every billing period of a contract with local dates."""
    return billing_periods(
        start=instant(start, zone),
        end=None if end is None else instant(end, zone),
        invoicing=invoicing,
        timezone=ZoneInfo(zone),
        since=instant("1980-01-01", zone),
        until=instant("2150-01-01", zone),
    )


def test_month_ends_are_counted_from_the_original_day():
    """31 January is followed by 28 February and then 31 March, not 28 March."""
    found = periods("2026-01-31", "2026-05-31", Invoicing(timing=ARREARS))
    assert days_of(found) == [
        "2026-01-31..2026-02-28",
        "2026-02-28..2026-03-31",
        "2026-03-31..2026-04-30",
        "2026-04-30..2026-05-31",
    ]


def test_a_leap_day_contract_bills_yearly_on_the_last_of_february():
    """29 February falls on the 28th in common years and on the 29th again in the next leap one."""
    found = periods("2024-02-29", "2029-01-01", Invoicing(timing=ARREARS, every=12))
    assert days_of(found) == [
        "2024-02-29..2025-02-28",
        "2025-02-28..2026-02-28",
        "2026-02-28..2027-02-28",
        "2027-02-28..2028-02-29",
        "2028-02-29..2029-01-01",
    ]
    assert found[-1].whole_end == instant("2029-02-28")


def test_calendar_periods_are_partial_at_both_ends():
    """The first and last calendar month are cut; the whole month is remembered."""
    found = periods("2026-01-15", "2026-03-10", Invoicing(timing=ARREARS, anchor=Anchor.CALENDAR))
    assert days_of(found) == [
        "2026-01-15..2026-02-01",
        "2026-02-01..2026-03-01",
        "2026-03-01..2026-03-10",
    ]
    assert found[0].whole_start == instant("2026-01-01")
    assert found[-1].whole_end == instant("2026-04-01")
    assert [p.index for p in found] == [1, 2, 3]


def test_month_periods_are_whole_months_counted_from_the_contract():
    """Quarters from the month the contract begins in: only the contract itself cuts one."""
    quarters = Invoicing(timing=ARREARS, every=3, anchor=Anchor.MONTH)
    found = periods("2026-02-15", "2026-09-10", quarters)
    assert days_of(found) == [
        "2026-02-15..2026-05-01",
        "2026-05-01..2026-08-01",
        "2026-08-01..2026-09-10",
    ]
    assert found[0].whole_start == instant("2026-02-01")
    later = periods("2026-02-15", "2026-09-10", replace(quarters, after_months=2))
    assert days_of(later)[0] == "2026-04-01..2026-07-01"
    once = periods("2026-02-15", "2026-09-10", replace(quarters, timing=Timing.ONCE))
    assert days_of(once) == ["2026-02-15..2026-09-10"]


def test_a_day_is_as_long_as_the_clocks_make_it():
    """The day of the spring change has 23 hours, the day of the autumn change 25."""
    daily = Invoicing(timing=ARREARS, unit=PeriodUnit.DAY)
    spring = periods("2026-03-29", "2026-03-30", daily, zone="Europe/Berlin")
    autumn = periods("2026-10-25", "2026-10-26", daily, zone="Europe/Berlin")
    hours = [(p.end - p.start) // 3_600_000_000 for p in spring + autumn]
    assert hours == [23, 25]


def test_a_day_that_a_zone_skipped_is_no_period():
    """Samoa had no 30 December 2011: the 29th is followed by the 31st."""
    daily = Invoicing(timing=ARREARS, unit=PeriodUnit.DAY)
    found = periods("2011-12-29", "2012-01-01", daily, zone="Pacific/Apia")
    assert days_of(found, "Pacific/Apia") == ["2011-12-29..2011-12-31", "2011-12-31..2012-01-01"]


def test_once_is_one_period_over_the_whole_term():
    """Billed once: start to end; without an end the period is open."""
    once = Invoicing(timing=Timing.ONCE)
    closed = periods("2026-01-15", "2027-01-15", once)
    assert days_of(closed) == ["2026-01-15..2027-01-15"]
    assert [p.end for p in periods("2026-01-15", None, once)] == [FOREVER]


def test_after_months_shifts_the_first_period():
    """A price after 2 months has its period 1 two months in, from the original day."""
    found = periods("2026-12-31", "2027-05-01", Invoicing(timing=ARREARS, after_months=2))
    assert days_of(found) == ["2027-02-28..2027-03-31", "2027-03-31..2027-04-30",
                              "2027-04-30..2027-05-01"]  # fmt: skip
    assert found[0].index == 1
    assert periods("2026-12-31", "2027-02-01", Invoicing(timing=ARREARS, after_months=2)) == []


def test_the_work_depends_on_the_range_not_on_the_age():
    """A month of a daily contract that began in 1970 does not walk through half a century."""
    calls = 0

    class Counting(ZoneInfo):
        def utcoffset(self, dt):
            nonlocal calls
            calls += 1
            return super().utcoffset(dt)

    found = billing_periods(
        start=Micros(0),
        end=None,
        invoicing=Invoicing(timing=ARREARS, unit=PeriodUnit.DAY),
        timezone=Counting("Europe/Berlin"),
        since=instant("2026-11-01"),
        until=instant("2026-12-01"),
    )
    assert len(found) == 30
    assert 0 < calls < 200


def local(*parts: int) -> datetime:
    """A wall-clock time; its zone is put on later."""
    return datetime(*parts)  # noqa: DTZ001 - naive on purpose


def _plus_months(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _naive_first(first: datetime, invoicing: Invoicing) -> datetime:
    """The calendar boundary at or before ``first``, found by walking there from 1900."""
    bound = local(1900, 1, 1)  # a Monday
    if invoicing.unit is PeriodUnit.MONTH:
        while (bound.year * 12 + bound.month - 1 - 24000) % invoicing.every:
            bound = _plus_months(bound, 1)
        while (following := _plus_months(bound, invoicing.every)) <= first:
            bound = following
        return bound
    zero = local(2000, 1, 3) if invoicing.unit is PeriodUnit.WEEK else local(2000, 1, 1)
    step = timedelta(days=invoicing.every * (7 if invoicing.unit is PeriodUnit.WEEK else 1))
    while (bound - zero) % step:
        bound += timedelta(days=1)
    while bound + step <= first:
        bound += step
    return bound


def _naive_bounds(day: date, invoicing: Invoicing, limit: date) -> list[datetime]:
    """Local boundaries one after the other, from the first period on; no arithmetic shared."""
    origin = local(day.year, day.month, day.day)
    first = _plus_months(origin, invoicing.after_months)
    shift = invoicing.after_months
    if invoicing.anchor is Anchor.CALENDAR:
        first = origin = _naive_first(first, invoicing)
        shift = 0
    elif invoicing.anchor is Anchor.MONTH:
        first, origin = first.replace(day=1), origin.replace(day=1)
    step = timedelta(days=invoicing.every * (7 if invoicing.unit is PeriodUnit.WEEK else 1))
    bounds = [first]
    while bounds[-1].date() < limit:
        count = len(bounds)
        if invoicing.unit is PeriodUnit.MONTH:
            bounds.append(_plus_months(origin, shift + count * invoicing.every))
        else:
            bounds.append(first + count * step)
    return bounds


INVOICINGS = st.builds(
    Invoicing,
    timing=st.just(ARREARS),
    every=st.sampled_from([1, 2, 3, 5, 12, 13]),
    unit=st.sampled_from(PeriodUnit),
    anchor=st.sampled_from(Anchor),
    after_months=st.sampled_from([0, 0, 1, 7]),
).filter(lambda i: i.anchor is not Anchor.MONTH or i.unit is PeriodUnit.MONTH)


@given(
    invoicing=INVOICINGS,
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2008, 1, 1), date(2014, 1, 1)),
    term=st.none() | st.integers(0, 900),
    window=st.tuples(st.integers(-200, 1500), st.integers(1, 400)),
)
def test_periods_agree_with_a_naive_walk(invoicing, zone, day, term, window):
    """Counting boundaries one by one from the start gives the same periods, cut the same way."""
    since = to_micros(datetime.combine(day + timedelta(days=window[0]), time(7), tzinfo=UTC))
    until = Micros(since + window[1] * 86_400_000_000)
    start = resolve(day, zone)
    end = None if term is None else resolve(day + timedelta(days=term), zone)
    bounds = _naive_bounds(day, invoicing, day + timedelta(days=2500))
    begun = _plus_months(datetime.combine(day, time()), invoicing.after_months)
    if invoicing.anchor is Anchor.MONTH:
        begun = max(begun.replace(day=1), datetime.combine(day, time()))
    first = to_micros(begun.replace(tzinfo=zone))
    last = FOREVER if end is None else end
    expected = []
    for index in range(len(bounds) - 1):
        left, right = (to_micros(b.replace(tzinfo=zone)) for b in bounds[index : index + 2])
        cut = max(left, first), min(right, last)
        if cut[0] < cut[1] and cut[0] < until and since < cut[1]:
            expected.append((index + 1, *cut, left, right))
    found = billing_periods(
        start=start, end=end, invoicing=invoicing, timezone=zone, since=since, until=until
    )
    assert [(p.index, p.start, p.end, p.whole_start, p.whole_end) for p in found] == expected


@given(
    invoicing=INVOICINGS,
    zone=st.sampled_from(ZONES),
    start=st.datetimes(local(2008, 1, 1), local(2014, 1, 1)),
    days=st.integers(1, 900),
)
def test_periods_cover_the_term_without_gap_or_overlap(invoicing, zone, start, days):
    """Every instant of the term (from the first period on) lies in exactly one period."""
    begin = to_micros(start.replace(tzinfo=UTC))
    end = Micros(begin + days * 86_400_000_000)
    found = billing_periods(
        start=begin, end=end, invoicing=invoicing, timezone=zone, since=Micros(0), until=FOREVER
    )
    assert all(p.start < p.end for p in found)
    assert all(a.end == b.start for a, b in pairwise(found))
    assert all(p.whole_start <= p.start and p.end <= p.whole_end for p in found)
    if invoicing.after_months == 0:
        assert found[0].start == begin
    if found:
        assert found[-1].end == end


@pytest.mark.parametrize(
    ("text", "first", "until"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-Q4", "2026-10-01", "2027-01-01"),
        ("2026-02", "2026-02-01", "2026-03-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
    ],
)
def test_a_period_spec_is_a_range_of_days(text, first, until):
    """Each of the four forms is read as first day and the day after the last."""
    spec = PeriodSpec.parse(text)
    assert (spec.first, spec.until) == (date.fromisoformat(first), date.fromisoformat(until))
    assert spec.holds(spec.first)
    assert not spec.holds(spec.until)


@pytest.mark.parametrize(
    "text",
    ["", "26", "2026-13", "2026-00", "2026-01-00", "2026-02-29", "2026-Q5", "2026-Q0", "2026-1",
     "2026-11-", "٢٠٢٦", "1969", "2200", "2026-11-03T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_period_is_refused(text):
    """Anything else is an error the caller can read, never a guess."""
    with pytest.raises(InvalidRequest, match="period"):
        PeriodSpec.parse(text)


def test_a_period_in_arrears_counts_on_its_last_local_day():
    """15 October to 15 November in arrears belongs to November; in advance to October."""
    zone = ZoneInfo("America/New_York")
    (period,) = periods(
        "2026-10-15", "2026-11-15", Invoicing(timing=ARREARS), zone="America/New_York"
    )
    assert accounting_date(period, timing=ARREARS, usage=True, timezone=zone) == date(2026, 11, 14)
    assert accounting_date(period, timing=Timing.ADVANCE, usage=False, timezone=zone) == date(
        2026, 10, 15
    )


def test_billed_once_counts_first_for_fees_and_last_for_usage():
    """A one-off fee counts on the contract's first day, usage priced once on its last."""
    (period,) = periods("2026-10-15", "2026-12-15", Invoicing(timing=Timing.ONCE))
    days = [
        accounting_date(period, timing=Timing.ONCE, usage=usage, timezone=ZoneInfo("UTC"))
        for usage in (False, True)
    ]
    assert days == [date(2026, 10, 15), date(2026, 12, 14)]
