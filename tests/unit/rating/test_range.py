"""The promised range (DESIGN section 7): exact to its edges, a clear error beyond, never a wrap."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import OutOfRange
from catalog.money import from_units, plain, round_fraction, round_quantity
from catalog.periods import PeriodSpec
from rating.charges.base import EXACT
from rating.pipeline import rate
from rating.rounding import round_amounts
from tests.unit.rating.builders import LATER, Usage, amounts, catalog_of

NINES = "99999999999999999.999999999"
"""The largest event value: below 10^17, 9 decimals."""


def one_price(charge: str, currency: str = "USD") -> str:
    """A business with one metered price."""
    return f"""
    meters: {{m: {{event_type: t, aggregation: sum, value: data.n}}}}
    products: {{p: {{name: P, meter: m}}}}
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts:
      k:
        customer: c
        start: "2026-01-01"
        currency: {currency}
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, charge: {charge}}}]
    """


def lines_of(charge: str, *values: str, currency: str = "USD") -> pl.DataFrame:
    """January of that business with these event values."""
    catalog = catalog_of(one_price(charge, currency))
    usage = Usage(catalog)
    for day, value in enumerate(values):
        usage.add("m", "s", f"2026-01-01T00:{day:02d}:00", value)
    spec = PeriodSpec.parse("2026-01")
    return rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines


@pytest.mark.parametrize(
    ("charge", "values", "quantity", "amount"),
    [
        ("{model: per_unit, unit_price: '0.999999999999'}", [NINES], NINES, "99999999999900000"),
        ("{model: per_unit, unit_price: '0.1'}", [NINES], NINES, "10000000000000000"),
        ("{model: per_unit, unit_price: '0.000000000001'}", [NINES], NINES, "100000"),
        ("{model: per_unit, unit_price: '99999999999999'}", ["999"], "999", "99899999999999001"),
        (
            "{model: per_unit, unit_price: '0.111111111111'}",
            [NINES] * 9,
            "899999999999999999.999999991",
            "99999999999900000",
        ),
        ("{model: per_unit, unit_price: '-99999999999999'}", ["999"], "999", "-99899999999999001"),
        (
            "{model: package, size: '0.000000001', package_price: '0.000000001'}",
            ["99999999.999999999"],
            "99999999.999999999",
            "100000000",
        ),
        (
            "{model: volume, tiers: [{unit_price: '0.01', flat_fee: '99999999999999'}]}",
            [NINES],
            NINES,
            "1099999999999999",
        ),
    ],
)
def test_the_edges_are_exact(charge, values, quantity, amount):
    """The largest values, quantities, prices and amounts, checked with fractions."""
    assert amounts(lines_of(charge, *values), "quantity", "amount") == [(quantity, amount)]


@pytest.mark.parametrize(
    ("price", "values"),
    [("1", [NINES[:-2]]), ("-1", [NINES]), ("0.123456789012", [NINES] * 9), ("1000", [NINES])],
)
def test_an_amount_of_10_to_the_17_is_out_of_range(price, values):
    """Rounded up to it, or far beyond what a column holds: an error that names the line."""
    with pytest.raises(OutOfRange, match="contract k, product p"):
        lines_of(f"{{model: per_unit, unit_price: '{price}'}}", *values)


def test_a_quantity_of_10_to_the_18_is_out_of_range():
    """Eleven of the largest values: an error that says so, not a wrapped sum."""
    with pytest.raises(OutOfRange, match="18"):
        lines_of("{model: per_unit, unit_price: '0'}", *[NINES] * 11)


FREE = "{model: per_unit, unit_price: '0'}"


def level_of(
    value: str, time: str, *, months: int = 1, times: int = 1, charge: str = FREE
) -> pl.DataFrame:
    """The first line of a level that changed at one instant, so many times."""
    text = one_price(charge).replace("sum", "weighted_sum")
    catalog = catalog_of(text.replace("every_months: 1", f"every_months: {months}"))
    usage = Usage(catalog)
    for _ in range(times):
        usage.add("m", "s", time, value)
    spec = PeriodSpec.parse("2026")
    lines = rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines
    return lines.head(1)


@pytest.mark.parametrize(
    ("value", "time", "months"),
    [
        (NINES, "2026-01-16T12:00:00", 1),
        (NINES, "2026-01-31T23:59:59.999999", 1),
        (f"-{NINES}", "2026-01-31T23:59:59.999999", 1),
        (NINES, "2026-01-16T12:00:00.000007", 12),
        (NINES, "2025-06-01T00:00:00.000001", 12),
    ],
)
def test_a_level_is_exact_at_any_microsecond(value, time, months):
    """The largest and the smallest value, over a month and a year."""
    moment, start = datetime.fromisoformat(time), datetime(2026, 1, 1)  # noqa: DTZ001
    end = datetime(2026 + months // 12, 1 + months % 12, 1)  # noqa: DTZ001
    micros = timedelta(microseconds=1)
    share = Fraction((end - max(moment, start)) // micros, (end - start) // micros)
    quantity = plain(round_quantity(Fraction(value) * share))
    assert amounts(level_of(value, time, months=months), "quantity") == [(quantity,)]


def test_a_tiny_level_is_priced_as_the_fraction_it_is():
    """Less than a billionth of a unit is shown as 0, and still buys a package."""
    package = "{model: package, size: '0.000000001', package_price: '7'}"
    lines = level_of("0.000000001", "2026-01-31T23:59:59.999999", charge=package)
    assert amounts(lines, "quantity", "amount") == [("0", "7")]


def test_a_level_of_10_to_the_18_is_out_of_range():
    """Eleven of the largest values held together: an error that names the line."""
    with pytest.raises(OutOfRange, match=r"contract k, product p: a quantity of 10\^18"):
        level_of(NINES, "2026-01-01T00:00:00", times=11)


def test_a_negative_price_is_exact_too():
    """Takes back what it says."""
    lines = lines_of("{model: per_unit, unit_price: '-0.005'}", "1", "2")
    assert amounts(lines, "amount") == [("-0.02",)]


@pytest.mark.parametrize(
    ("currency", "amount"), [("USD", "0.13"), ("JPY", "0"), ("KWD", "0.125"), ("CLF", "0.125")]
)
def test_amounts_have_the_minor_units_of_their_currency(currency, amount):
    """Half away from zero at the currency's own decimals: 2, 0, 3 and 4."""
    lines = lines_of("{model: per_unit, unit_price: '0.125'}", "1", currency=currency)
    assert amounts(lines, "amount") == [(amount,)]


@settings(max_examples=60, deadline=None)
@given(
    units=st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=20),
    currency=st.sampled_from(["USD", "JPY", "KWD", "CLF"]),
)
def test_columns_round_as_fractions_do(units, currency):
    """The two places that round agree on every Decimal(38,21) below the limit."""
    decimals = {"USD": 2, "JPY": 0, "KWD": 3, "CLF": 4}[currency]
    exact = [from_units(unit, 21) for unit in units if abs(unit) < (10**17 - 1) * 10**21]
    frame = pl.DataFrame(
        {"amount": pl.Series(exact, dtype=EXACT), "currency": [currency] * len(exact)},
        schema_overrides={"currency": pl.String},
    )
    got = round_amounts(frame)["amount"].to_list() if exact else []
    assert got == [round_fraction(Fraction(number), decimals) for number in exact]


def test_halves_round_away_from_zero_once():
    """0.125 is 0.13, -0.125 is -0.13: of the whole line, not of its tiers."""
    tiers = "[{up_to: '1', unit_price: '0.004'}, {unit_price: '0.004'}]"
    lines = lines_of(f"{{model: graduated, tiers: {tiers}}}", "2")
    assert amounts(lines, "amount") == [("0.01",)]
    assert amounts(lines_of("{model: per_unit, unit_price: '0.125'}", "-1"), "amount") == [
        ("-0.13",)
    ]
