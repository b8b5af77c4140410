"""Reports against sums by hand: whichever way they are cut, the cents are the same."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from invoicing.reporting import (
    DAYS_MAX,
    REPORTED,
    SPREAD_LINES,
    By,
    adjustments,
    revenue,
    unbilled,
)
from tests.closed_world import line

UTC_ZONE = ZoneInfo("UTC")
START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    """REPORTED rows."""
    full = [{"accounting_date": date(2026, 1, 31)} | row for row in rows]
    return pl.DataFrame([[row[n] for n in REPORTED] for row in full], REPORTED, orient="row")


def test_a_line_is_spread_over_its_days() -> None:
    """10.00 over three days is 3.33, 3.34, 3.33; whole on its accounting date."""
    rows = frame(line(1, amount=Decimal("10.00"), period_end=START + timedelta(days=3)))
    by_day = revenue(rows, By.DAY, timezone=UTC_ZONE)
    assert by_day.select("day", "amount").rows() == [
        (date(2026, 1, 1), Decimal("3.33")),
        (date(2026, 1, 2), Decimal("3.34")),
        (date(2026, 1, 3), Decimal("3.33")),
    ]
    whole = revenue(rows, By.ACCOUNTING_DATE, timezone=UTC_ZONE)
    assert whole.select("accounting_date", "amount").rows() == [(date(2026, 1, 31), 10)]


def test_days_are_local() -> None:
    """A month in Berlin begins the evening before in UTC, and has 31 days all the same."""
    berlin = ZoneInfo("Europe/Berlin")
    begin, end = (datetime(2026, month, 1, tzinfo=berlin).astimezone(UTC) for month in (3, 4))
    rows = frame(line(1, amount=Decimal("31.00"), period_start=begin, period_end=end))
    found = revenue(rows, By.DAY, timezone=berlin)
    assert found["day"].to_list() == [date(2026, 3, day) for day in range(1, 32)]
    assert set(found["amount"]) == {Decimal(1)}


def test_what_never_ends_counts_on_its_day() -> None:
    """A line without an end, or over more days than are told, is whole on its accounting date."""
    far = START + timedelta(days=DAYS_MAX + 1)
    rows = frame(
        line(1, amount=Decimal(3), period_end=None),
        line(2, amount=Decimal(4), period_end=far),
        line(3, amount=Decimal(0), period_end=START + timedelta(days=2)),
    )
    found = revenue(rows, By.DAY, timezone=UTC_ZONE)
    assert found.select("day", "amount", "lines").rows() == [(date(2026, 1, 31), Decimal(7), 2)]


def test_many_lines_are_told_like_few() -> None:
    """However many are spread at a time, sums and counts are those of all."""
    end = START + timedelta(days=2)
    one = frame(line(1, amount=Decimal("0.03"), period_end=end))
    count = SPREAD_LINES + 1
    ids = pl.Series("line_id", [f"l{number}" for number in range(count)])
    many = one.select(pl.all().repeat_by(count).explode()).with_columns(ids)
    found = revenue(many, By.DAY, timezone=UTC_ZONE)
    shares = [Decimal("0.02") * count, Decimal("0.01") * count]
    assert found["amount"].to_list() == shares
    assert found["lines"].to_list() == [count, count]
    assert revenue(many.clear(), By.DAY, timezone=UTC_ZONE).is_empty()


def test_open_closed_and_unbilled() -> None:
    """A customer's row says what is closed and what is open; invoiced lines are not unbilled."""
    rows = frame(
        line(1, amount=Decimal(1)),
        line(2, amount=Decimal(2)),
        line(3, amount=Decimal(4), status="open"),
        line(4, amount=Decimal(-8), kind="adjustment", adjusts="x", cause="late"),
    )
    found = revenue(rows, By.CUSTOMER, timezone=UTC_ZONE)
    assert found.rows() == [("acme", "USD", Decimal(-5), Decimal(4), Decimal(-1), 4)]
    waiting = unbilled(rows, invoiced=frozenset({line(1)["line_id"]}))
    assert waiting.rows() == [("acme", "USD", Decimal(-6), Decimal(4), Decimal(-2), 3)]
    assert adjustments(rows)["line_id"].to_list() == [line(4)["line_id"]]


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**12), 10**12),
            st.integers(1, 400),
            st.sampled_from([("USD", 2), ("JPY", 0), ("KWD", 3)]),
            st.sampled_from(["open", "closed"]),
            st.sampled_from(["a", "b", None]),
        ),
        max_size=8,
    )
)
def test_every_cut_has_the_same_sum(rows: list[tuple[int, int, tuple[str, int], str, Any]]) -> None:
    """Per currency and status; and a day's share is less than a minor unit off the even one."""
    made, expected = [], defaultdict(Fraction)
    for number, (units, days, (currency, digits), status, product) in enumerate(rows):
        amount = Decimal(units).scaleb(-digits)
        made.append(line(number, amount=amount, currency=currency, status=status, product=product,
                         period_end=START + timedelta(days=days)))  # fmt: skip
        expected[currency, status] += Fraction(amount)
    for by in By:
        found = revenue(frame(*made), by, timezone=UTC_ZONE)
        for status in ("open", "closed"):
            sums = dict(found.group_by("currency").agg(pl.col(status).sum()).rows())
            for currency in ("USD", "JPY", "KWD"):
                assert Fraction(sums.get(currency, 0)) == expected[currency, status]
    for row in made:
        days = (row["period_end"] - START).days
        shares = revenue(frame(row), By.DAY, timezone=UTC_ZONE)
        digits = {"USD": 2, "JPY": 0, "KWD": 3}[row["currency"]]
        for share in shares["amount"]:
            assert abs(Fraction(share) - Fraction(row["amount"]) / days) < Fraction(1, 10**digits)
