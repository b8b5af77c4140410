"""Prices on 64-bit integers are those of fractions, to the edges of what 64 bits hold."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.charges import Graduated, PerUnit
from catalog.money import from_units, minor_units, round_fraction
from rating.charges.base import NotCovered
from rating.charges.registry import MODELS
from rating.exactly import price_exactly, start_of
from rating.pieces import USAGE
from rating.shares import Share
from rating.straight import LARGEST, ROWS_MIN, Straights, in_units, straight_of
from rating.terms import Terms
from tests.unit.rating.builders import terms_of
from tests.unit.rating.businesses import TERMS, charges, maybe

bounds = maybe(**{name: TERMS[name] for name in ("minimum", "maximum", "discount_percent")})
TIERS = (
    "[{up_to: '1000', unit_price: '0.01', flat_fee: '1.5'}, "
    "{up_to: '100000', unit_price: '0.008'}, {unit_price: '0.005'}]"
)


def straight_amounts(terms: Terms, quantities: list[Decimal]) -> list[Decimal | None]:
    """What the integers make of each quantity; null where they leave it to others."""
    repeated = quantities * -(-ROWS_MIN // len(quantities))
    usage = pl.DataFrame(
        {
            "line": [0] * len(repeated), "dimensions": "{}", "quantity": repeated,
            "divisor": 1, "event_count": 1, "rest": None,
        },
        schema=USAGE,
    )  # fmt: skip
    found = Straights([terms], np.zeros(1, np.int64)).amounts(usage).to_list()
    assert found == (found[: len(quantities)] * len(repeated))[: len(repeated)]
    return found[: len(quantities)]


def exactly(terms: Terms, units: Decimal) -> Decimal | None:
    """The same on fractions, rounded once."""
    try:
        amount = price_exactly(terms, Share(), start_of(terms, units)).amount
    except NotCovered:
        return None
    return round_fraction(amount, minor_units(terms.currency))


def edges(terms: Terms) -> list[Decimal]:
    """Every place where something changes, and its neighbours, by a billionth and by one."""
    found = straight_of(terms)
    assert found is not None
    nanos = [int(bend * 10**9) for bend in found.bends]
    steps = (-(10**9), -1, 0, 1, 10**9)
    return [from_units(nano + step, 9) for nano in nanos for step in steps]


def last_reached(terms: Terms, unit: int) -> int:
    """The most billionths, a multiple of ``unit``, that are taken: no whole units if it is 1."""
    found = straight_of(terms)
    assert found is not None
    scaled = in_units(found, 9 if unit == 1 else 0)
    assert scaled is not None
    return scaled.reach * unit


@settings(max_examples=60, deadline=None)
@given(
    charge=charges(),
    more=bounds,
    included=st.sampled_from(["0", "1.5", "7"]),
    units=st.lists(st.integers(-(10**27), 10**27), min_size=1, max_size=8),
    digits=st.integers(0, 26),
)
def test_integers_and_fractions_are_one_formula(charge, more, included, units, digits):
    """At every bend, beside it, and anywhere else: the same cents, or left to fractions."""
    terms = terms_of(charge, included=included, **more)
    if straight_of(terms) is None:
        return
    anywhere = [from_units(u // 10**digits, 9) for u in units]
    whole = [from_units(u // 10**digits * 10**9, 9) for u in units if abs(u) < 10**26]
    quantities = [q for q in [*edges(terms), *anywhere, *whole] if abs(q) < 10**18]
    found = straight_amounts(terms, quantities)
    for quantity, amount in zip(quantities, found, strict=True):
        assert amount is None or amount == exactly(terms, quantity)


@pytest.mark.parametrize(
    "charge",
    [
        "{model: per_unit, unit_price: '0.000003'}",
        "{model: per_unit, unit_price: '-12345.678'}",
        "{model: per_unit, unit_price: '0.00000000001'}",
        f"{{model: graduated, tiers: {TIERS}}}",
        f"{{model: volume, tiers: {TIERS}}}",
        "{model: stairstep, tiers: [{up_to: '10', flat_fee: '5'}, {flat_fee: '9999999'}]}",
    ],
)
@pytest.mark.parametrize("unit", [1, 10**9])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_last_number_that_fits_is_exact_and_the_next_is_left(charge, unit, sign):
    """Where 64 bits end, in billionths and in whole units, on both sides of zero."""
    terms = terms_of(charge)
    last = last_reached(terms, unit)
    assert last > 0
    fitting = [from_units(sign * (last - n * unit), 9) for n in range(3)]
    assert straight_amounts(terms, fitting) == [exactly(terms, q) for q in fitting]
    after = [last + n * unit for n in (1, 2, 1_000_003)]
    beyond = [from_units(sign * nanos, 9) for nanos in after if unit > 1 or nanos % 10**9]
    assert straight_amounts(terms, beyond) == [None] * len(beyond)


@pytest.mark.parametrize("nanos", [-(2**63), 2**63 - 1, 2**63, 2**64, -(2**64) - 1, 2**64 + 5])
def test_units_that_are_no_64_bits_are_not_taken_for_others(nanos):
    """The low half of a long number is not the number."""
    terms = terms_of("{model: per_unit, unit_price: '0.01'}")
    quantity = from_units(nanos, 9)
    assert straight_amounts(terms, [quantity])[0] in (None, exactly(terms, quantity))
    assert nanos not in (2**64, 2**64 + 5) or straight_amounts(terms, [quantity]) == [None]


@pytest.mark.parametrize(("currency", "digits"), [("JPY", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)])
def test_halves_round_away_from_zero(currency, digits):
    """At the minor units of every kind of currency, on both sides."""
    terms = replace(terms_of("{model: per_unit, unit_price: '1'}"), currency=currency)
    half = 5 * 10 ** (8 - digits)
    quantities = [from_units(sign * half + beside, 9) for sign in (1, -1) for beside in (-1, 0, 1)]
    found = straight_amounts(terms, quantities)
    assert found == [exactly(terms, quantity) for quantity in quantities]
    assert found[1] == Decimal(1).scaleb(-digits)


def test_terms_that_are_not_straight_are_left_alone():
    """Packages, a maximum a tier, conversions: none of them is a line between bends."""
    packages = terms_of("{model: package, size: '10', package_price: '1'}")
    capped = terms_of("{model: graduated, tiers: [{unit_price: '1', maximum: '5'}]}")
    assert straight_of(packages) is None
    assert straight_of(capped) is None
    assert straight_amounts(packages, [Decimal(1)]) == [None]


def test_a_model_that_bends_where_it_does_not_say_is_left_alone(monkeypatch):
    """The formula is asked at a third point of every piece."""
    terms = terms_of(f"{{model: graduated, tiers: {TIERS}}}")
    lying = replace(MODELS[Graduated], bends=lambda _: [Decimal(1)])
    monkeypatch.setitem(MODELS, Graduated, lying)
    assert straight_of(terms) is None


def test_few_rows_are_not_worth_it():
    """Below so many rows the tables of a price are not made."""
    terms = terms_of("{model: per_unit, unit_price: '2'}")
    usage = pl.DataFrame(
        [(0, "{}", Decimal(1), 1, 1, None)] * (ROWS_MIN - 1), schema=USAGE, orient="row"
    )
    assert Straights([terms], np.zeros(1, np.int64)).amounts(usage).null_count() == ROWS_MIN - 1
    assert isinstance(terms.price.charge, PerUnit)


def test_nothing_exceeds_64_bits_on_the_way():
    """The product at the last unit that is taken is below the limit, and not far."""
    terms = terms_of("{model: per_unit, unit_price: '0.003'}")
    last = last_reached(terms, 1)
    exact = Fraction(last) * 3
    assert LARGEST - 10**13 < exact <= LARGEST
