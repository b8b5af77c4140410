"""Burn-down over segment totals against a person going through the events one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.clock import to_datetime, to_micros
from catalog.pricebooks import Anchor, Entitlement
from catalog.snapshot import midnight
from entitlements import burndown
from entitlements.given import NO_GRANTS
from entitlements.schedules import Schedules
from tests.ledger_world import ACME, TOKENS, UNIT, catalog, contract, grant, right

FIRST = date(2026, 1, 1)
DAYS = 400
DAY = timedelta(days=1)


@dataclass
class Deal:
    """One entitlement of one contract, as the oracle knows it; or a recurring grant: ``given``."""

    name: str
    start: int
    days: int
    right: Entitlement
    place: str = ""
    given: bool = False

    def period(self, day: int) -> tuple[int, int] | None:
        """First day and end of the period that holds ``day``, by walking month by month."""
        if not self.start <= day < self.start + self.days:
            return None
        begin, end = self.start, self.start + self.days
        if self.right.every_months is None:
            return begin, end
        if self.right.anchor is not Anchor.CONTRACT:
            days = range(self.start, end + 1)
            cuts = [d for d in days if d in {begin, end} or self.on_the_calendar(d)]
            return next((a, b) for a, b in pairwise(cuts) if a <= day < b)
        origin = FIRST + self.start * DAY
        for step in range(100):
            month = origin.month - 1 + (step + 1) * self.right.every_months
            following = origin.replace(year=origin.year + month // 12, month=month % 12 + 1)
            until = (following - FIRST).days
            if day < until:
                return begin, min(until, end)
            begin = until
        raise AssertionError

    def on_the_calendar(self, day: int) -> bool:
        """Whether a period begins on ``day``: the first of every so many months.

        They are counted since 2000, or since the month of the start.
        """
        on, start = FIRST + day * DAY, FIRST + self.start * DAY
        months = (on.year - 2000) * 12 + on.month - 1
        if self.right.anchor is Anchor.MONTH:
            months -= (start.year - 2000) * 12 + start.month - 1
        return on.day == 1 and months % self.right.every_months == 0


@dataclass
class Gift:
    """A given grant, as the oracle knows it: days, not instants."""

    name: str
    start: int
    days: int
    amount: int
    priority: int
    rollover_max: int | None

    def active(self, day: int) -> bool:
        return self.start <= day < self.start + self.days


@dataclass
class Naive:
    """Goes day by day and event by event. Everything is a plain list and a plain loop."""

    deals: list[Deal]
    gifts: list[Gift] = field(default_factory=list)
    resets: dict[str, int] = field(default_factory=dict)  # gift -> day of the last reset it saw
    lots: dict[tuple, list[int]] = field(default_factory=dict)  # (deal, period) -> [amount, left]
    active: list[tuple] = field(default_factory=list)
    debt: int = 0

    def open(self, day: int) -> None:
        now = []
        for deal in self.deals:
            period = deal.period(day)
            if period is not None:
                place = (deal.place, period[0])
                now.append((deal.right.priority, period[1], period[0], deal.place, place))
        for gift in self.gifts:
            if gift.active(day):
                self._reset(gift, day)
                key = (gift.name, self.resets.get(gift.name, gift.start))
                end = gift.start + gift.days
                now.append((gift.priority, end, gift.start, gift.name, key))
        keys = [key for *_, key in sorted(now, key=lambda n: n[:4])]
        stays = bool(self.active) and set(self.active) <= set(keys)
        if set(self.active) != set(keys) and not stays:
            self.debt = 0
        for deal in self.deals:
            period = deal.period(day)
            if period is None or (deal.place, period[0]) in self.lots:
                continue
            amount = int(deal.right.amount) * UNIT
            before = deal.period(period[0] - 1)
            if before is not None and deal.right.rollover_max is not None:
                left = self.lots[deal.place, before[0]][1]
                amount += min(left, int(deal.right.rollover_max) * UNIT)
            self.lots[deal.place, period[0]] = [amount, amount]
        self.active = keys
        debt, self.debt = self.debt, 0
        self.use(debt)

    def _reset(self, gift: Gift, day: int) -> None:
        """On the day an allowance is given anew, no more than the maximum of a gift survives."""
        if day == gift.start:
            self.lots[gift.name, day] = [gift.amount * UNIT, gift.amount * UNIT]
            return
        anew = any(
            (period := deal.period(day)) is not None and period[0] == day and day > deal.start
            for deal in self.deals
            if deal.right.every_months is not None and not deal.given
        )
        if anew and gift.rollover_max is not None:
            before = self.lots[gift.name, self.resets.get(gift.name, gift.start)][1]
            kept = min(before, gift.rollover_max * UNIT)
            self.lots[gift.name, day] = [kept, kept]
            self.resets[gift.name] = day

    def use(self, amount: int) -> None:
        for key in self.active:
            burned = min(amount, self.lots[key][1])
            self.lots[key][1] -= burned
            amount -= burned
        self.debt += amount


@st.composite
def deals(draw: st.DrawFn) -> list[Deal]:
    found = []
    for index in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, 200).filter(lambda d: (FIRST + d * DAY).day <= 28))
        given_right = right(
            amount=str(draw(st.integers(0, 20))),
            every_months=draw(st.sampled_from([1, 2, None])),
            priority=draw(st.integers(0, 2)),
            rollover_max=draw(st.sampled_from([None, Decimal(0), Decimal(5), Decimal(100)])),
            anchor=draw(st.sampled_from(Anchor)),
        )
        days, name = draw(st.integers(1, 200)), f"k{index}"
        found.append(Deal(name, start, days, given_right, f"{name}/{TOKENS}/1"))
        if given_right.every_months is not None and index and draw(st.booleans()):
            found[-1].given, found[-1].place = True, name
    return found


@st.composite
def gifts(draw: st.DrawFn) -> list[Gift]:
    return [
        Gift(
            name=f"g{index}",
            start=draw(st.integers(0, 250)),
            days=draw(st.integers(1, 200)),
            amount=draw(st.integers(0, 20)),
            priority=draw(st.integers(0, 2)),
            rollover_max=draw(st.sampled_from([None, 0, 3, 100])),
        )
        for index in range(draw(st.integers(0, 2)))
    ]


USAGE = st.lists(st.tuples(st.integers(0, DAYS - 1), st.integers(0, 15)), max_size=25)


def schedule_of(found: list[Deal], gifts: list[Gift] = ()):
    contracts = [
        contract(
            deal.name,
            deal.right,
            start=FIRST + deal.start * DAY,
            end=FIRST + (deal.start + deal.days) * DAY,
        )
        for deal in found
        if not deal.given
    ]
    zone = catalog().timezone
    given = [
        grant(
            gift.name,
            str(gift.amount),
            since=to_datetime(midnight(FIRST + gift.start * DAY, zone)),
            until=to_datetime(midnight(FIRST + (gift.start + gift.days) * DAY, zone)),
            priority=gift.priority,
            rollover_max=gift.rollover_max,
        )
        for gift in gifts
    ]
    given += [
        grant(
            deal.name,
            str(deal.right.amount),
            since=to_datetime(midnight(FIRST + deal.start * DAY, zone)),
            until=to_datetime(midnight(FIRST + (deal.start + deal.days) * DAY, zone)),
            priority=deal.right.priority,
            rollover_max=deal.right.rollover_max,
            every_months=deal.right.every_months,
            anchor=deal.right.anchor,
        )
        for deal in found
        if deal.given
    ]
    book = NO_GRANTS.extended(given, revision=1)
    return Schedules(catalog(*contracts), grants=book).of(ACME)[TOKENS]


@settings(max_examples=250, deadline=None)
@given(found=deals(), extra=gifts(), usage=USAGE, today=st.integers(0, DAYS - 1))
def test_totals_burn_as_single_events_do(found, extra, usage, today) -> None:
    """Whatever the grants, and in whatever order events come, the balance is the oracle's."""
    naive = Naive(found, extra)
    for day in range(today + 1):
        naive.open(day)
        for when, amount in usage:
            if when == day:
                naive.use(amount * UNIT)
    schedule = schedule_of(found, extra)
    now = midnight(FIRST + today * DAY, Schedules(catalog()).catalog.timezone)
    history = schedule.history(now)
    totals: dict[int, int] = {}
    for when, amount in usage:
        segment = schedule.segment_at(to_micros(at(when)))
        if when <= today and segment is not None:
            totals[segment.start] = totals.get(segment.start, 0) + amount * UNIT
    standing = burndown.standing(history, totals)
    if history:
        assert [lot.remaining for lot in standing.lots] == [
            naive.lots[key][1] for key in naive.active
        ]
        assert standing.granted == sum(naive.lots[key][0] for key in naive.active)
        assert standing.debt == naive.debt
    else:
        assert naive.active == []


@settings(max_examples=50, deadline=None)
@given(found=deals(), extra=gifts(), day=st.integers(0, DAYS - 1))
def test_segments_tile_time(found, extra, day) -> None:
    """Every instant after the first start lies in exactly one segment, found from any side."""
    schedule = schedule_of(found, extra)
    segment = schedule.segment_at(to_micros(at(day)))
    if segment is None:
        assert day < min(one.start for one in [*found, *extra])
        return
    fresh = schedule_of(found, extra)
    assert fresh.segment_at(segment.start) == segment
    assert schedule_of(found, extra).segment_at(segment.end - 1) == segment
    following = schedule_of(found, extra).segment_at(segment.end)
    assert following is None or following.start == segment.end


def at(day: int) -> datetime:
    """Noon of a day."""
    return to_datetime(midnight(FIRST + day * DAY, catalog().timezone)) + timedelta(hours=12)


def test_a_top_up_pays_the_overage_and_a_reset_forgets_it() -> None:
    """Debt lives while every grant lives on, and not a reset longer."""
    found = [
        Deal("k0", 0, 200, right(amount="10"), ""),
        Deal("k1", 10, 190, right(amount="8", every_months=None), ""),
    ]
    schedule = schedule_of(found)
    before, after, reset = (to_micros(at(day)) for day in (5, 12, 35))
    totals = {schedule.segment_at(before).start: 15 * UNIT}
    assert burndown.standing(schedule.history(before), totals).available == -5 * UNIT
    assert burndown.standing(schedule.history(after), totals).available == 3 * UNIT
    assert burndown.standing(schedule.history(reset), totals).available == 13 * UNIT


def test_refunds_give_back_the_last_burned_first() -> None:
    """A negative total undoes burning in reverse, and beyond that is credit."""
    found = [
        Deal("k0", 0, 200, right(amount="10", priority=0), ""),
        Deal("k1", 0, 200, right(amount="10", priority=1), ""),
    ]
    schedule = schedule_of(found)
    now = to_micros(at(1))
    segment = schedule.segment_at(now)
    credited = burndown.standing([segment], {segment.start: -4 * UNIT})
    assert credited.available == 24 * UNIT
    assert [lot.remaining for lot in credited.lots] == [10 * UNIT, 10 * UNIT]
