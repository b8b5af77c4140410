"""Exact decimals: what is read, what is refused, and the one rounding."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import DomainError, OutOfRange
from catalog.money import (
    AMOUNT,
    PRICE,
    QUANTITY,
    UnknownCurrency,
    minor_units,
    parse_decimal,
    plain,
    round_amount,
    round_fraction,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.000", "0"),
        ("+7", "7"),
        ("007.50", "7.5"),
        ("0.000000000001", "0.000000000001"),
        ("99999999999999.999999999999", "99999999999999.999999999999"),
        ("1.500000000000000000", "1.5"),
        ("3e-5", "0.00003"),
        ("1.50E2", "150"),
        ("0e99", "0"),
        (12, "12"),
    ],
)
def test_a_decimal_keeps_every_digit(text: str | int, expected: str):
    """Any plain spelling is read exactly and shown in one form."""
    assert plain(parse_decimal(text, PRICE)) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (1.5, "invalid_decimal"),
        (True, "invalid_decimal"),
        (None, "invalid_decimal"),
        ("", "invalid_decimal"),
        (" 1", "invalid_decimal"),
        ("1_000", "invalid_decimal"),
        ("1,5", "invalid_decimal"),
        (".5", "invalid_decimal"),
        ("5.", "invalid_decimal"),
        ("NaN", "invalid_decimal"),
        ("Infinity", "invalid_decimal"),
        ("0x10", "invalid_decimal"),
        ("١٢", "invalid_decimal"),
        ("1e1000000000", "invalid_decimal"),
        ("1" * 65, "invalid_decimal"),
        ("1e99", "out_of_range"),
        ("100000000000000", "out_of_range"),
        ("-100000000000000", "out_of_range"),
        ("0.0000000000001", "too_precise"),
        ("1e-13", "too_precise"),
    ],
)
def test_what_is_not_an_exact_price_is_refused(text: Any, code: str):
    """Floats, words, foreign digits, and numbers too large or too fine name their mistake."""
    with pytest.raises(DomainError) as caught:
        parse_decimal(text, PRICE)
    assert caught.value.code == code


def test_each_kind_of_number_has_its_own_reach():
    """Quantities end below 10^18 with 9 decimals, amounts below 10^17."""
    largest = "999999999999999999.999999999"
    assert plain(parse_decimal(largest, QUANTITY)) == largest
    for text, limit in ((str(10**18), QUANTITY), (str(10**17), AMOUNT)):
        with pytest.raises(OutOfRange):
            parse_decimal(text, limit)
    with pytest.raises(DomainError, match="at most 9 decimals"):
        parse_decimal("0.0000000001", QUANTITY)


@given(units=st.integers(-(10**26), 10**26).filter(lambda n: abs(n) < 10**26))
def test_every_price_survives_its_text(units: int):
    """Plain and parse_decimal are inverse over the whole range of prices."""
    price = Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -12))
    text = plain(price)
    assert parse_decimal(text, PRICE) == price
    assert "e" not in text.lower()
    assert Fraction(text) == Fraction(units, 10**12)


@pytest.mark.parametrize(
    ("numerator", "denominator", "decimals", "expected"),
    [
        (1, 200, 2, "0.01"),
        (-1, 200, 2, "-0.01"),
        (1, 201, 2, "0.00"),
        (-1, 201, 2, "0.00"),
        (5, 2, 0, "3"),
        (-5, 2, 0, "-3"),
        (2, 3, 3, "0.667"),
        (0, 7, 2, "0.00"),
        (10**17 * 100 - 1, 100, 2, "99999999999999999.99"),
    ],
)
def test_halves_are_rounded_away_from_zero(
    numerator: int, denominator: int, decimals: int, expected: str
):
    """A tie goes away from zero, everything else to the nearest; zero has no sign."""
    assert str(round_amount(numerator, denominator, decimals)) == expected


@given(
    numerator=st.integers(-(10**24), 10**24),
    denominator=st.integers(1, 10**9),
    decimals=st.integers(0, 4),
)
def test_rounding_is_nearest_and_symmetric(numerator: int, denominator: int, decimals: int):
    """The result is within half a minor unit, and negating before or after is the same."""
    exact = Fraction(numerator, denominator)
    if abs(exact) >= 10**17 - 1:
        return
    rounded = Fraction(round_fraction(exact, decimals))
    assert abs(rounded - exact) <= Fraction(1, 2 * 10**decimals)
    assert Fraction(round_fraction(-exact, decimals)) == -rounded


def test_an_amount_beyond_the_promise_is_refused():
    """Rounding up to 10^17 is out of range, never a wrap."""
    with pytest.raises(OutOfRange):
        round_amount(10**17 * 1000 - 1, 1000, 2)


@pytest.mark.parametrize(("currency", "decimals"), [("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)])
def test_minor_units_follow_iso_4217(currency: str, decimals: int):
    """Currencies differ in their minor units."""
    assert minor_units(currency) == decimals


@pytest.mark.parametrize("currency", ["XAU", "XXX", "usd", "BTC", "", "US"])
def test_what_is_no_currency_is_refused(currency: str):
    """Gold, test codes, lower case and inventions are unknown."""
    with pytest.raises(UnknownCurrency):
        minor_units(currency)
