"""Charge kernels: columns, fractions and a naive third opinion agree; edges by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.charges import (
    MODEL_NAMES,
    Flat,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PerUnit,
    Stairstep,
    Volume,
)
from catalog.money import from_units
from rating.book import make_book, units_max
from rating.charges.base import UNITS, NotCovered
from rating.charges.registry import COMPOSED, MODELS, model_name
from rating.exactly import price_exactly, start_of
from rating.shares import Share
from rating.steps import STEPS
from rating.terms import Terms
from tests.oracle import Refused, charged
from tests.unit.rating.builders import terms_of
from tests.unit.rating.businesses import TERMS, charges, maybe


def columns_of(terms: Terms, units: list[Decimal]) -> list[Decimal | None]:
    """What the columnar steps make of each quantity under one Terms; null where not covered."""
    book = make_book([terms])
    lines = pl.DataFrame(
        {"line": range(len(units)), "terms": [0] * len(units), "units": units},
        schema={"line": pl.Int64, "terms": pl.Int64, "units": UNITS},
    ).join(book.terms, on="terms")
    for step in STEPS:
        lines = step.columns(lines, book)
    return lines.sort("line")["amount"].to_list()


def exactly(terms: Terms, units: Decimal) -> Fraction | None:
    """The same on fractions."""
    try:
        return price_exactly(terms, Share(), start_of(terms, units)).amount
    except NotCovered:
        return None


inner_terms = maybe(**{name: TERMS[name] for name in ("minimum", "maximum", "discount_percent")})


@settings(max_examples=80, deadline=None)
@given(
    charge=charges(),
    more=inner_terms,
    included=st.sampled_from(["0", "1.5", "7"]),
    units=st.lists(st.integers(-(10**26), 10**26), min_size=1, max_size=6),
    scale=st.integers(0, 26),
)
def test_columns_and_fractions_are_one_formula(charge, more, included, units, scale):
    """Wherever a Book says that columns fit they equal the fractions, digit by digit."""
    terms = terms_of(charge, included=included, **more)
    limit = units_max(terms)
    if limit is None:
        return
    reach = 10 ** (26 - scale)
    quantities = [from_units(u // (10**26 // reach), 9) for u in units]
    bounds = [t.up_to for t in getattr(terms.price.charge, "tiers", ()) if t.up_to is not None]
    fitting = [q for q in [*quantities, *bounds, limit, Decimal(0)] if abs(q) <= limit]
    got = columns_of(terms, fitting)
    assert [None if g is None else Fraction(g) for g in got] == [exactly(terms, q) for q in fitting]


@settings(max_examples=80, deadline=None)
@given(charge=charges(), units=st.integers(-60_000, 90_000).map(lambda n: Decimal(n).scaleb(-3)))
def test_a_charge_is_what_the_oracle_says(charge, units):
    """The sum of the parts of a charge is the naive formula's amount."""
    model = terms_of(charge).price.charge
    try:
        expected = charged(model, Fraction(units))
    except Refused:
        with pytest.raises(NotCovered):
            MODELS[type(model)].exact(model, Fraction(units))
        return
    parts = MODELS[type(model)].exact(model, Fraction(units))
    assert sum((part.amount for part in parts), Fraction(0)) == expected


@settings(max_examples=60, deadline=None)
@given(charge=charges(), units=st.integers(-(10**24), 10**24).map(lambda n: from_units(n, 9)))
def test_a_bound_is_a_bound(charge, units):
    """No part of a charge, priced units included, exceeds what the model promised."""
    model = terms_of(charge).price.charge
    bound = MODELS[type(model)].bound(model)
    try:
        parts = MODELS[type(model)].exact(model, Fraction(units))
    except NotCovered:
        return
    limit = bound.fixed + max(bound.per_unit, 1) * abs(Fraction(units))
    assert sum(abs(part.amount) for part in parts) <= limit
    assert all(abs(part.priced) <= limit for part in parts)


GRADUATED = """{model: graduated, tiers: [
    {up_to: "10", unit_price: "2", flat_fee: "5"}, {up_to: "20", unit_price: "1", flat_fee: "3"},
    {unit_price: "0.5"}]"""


STEPPED = """{model: stairstep, tiers: [
    {up_to: "100", flat_fee: "25"}, {up_to: "1000", flat_fee: "20"}, {flat_fee: "15"}]"""
SHARES = """{model: graduated_percentage, tiers: [
    {up_to: "10", percent: "1", flat_fee: "200"}, {up_to: "20", percent: "2", flat_fee: "300"},
    {percent: "3", flat_fee: "400"}]"""


@pytest.mark.parametrize(
    ("charge", "units", "amount"),
    [
        ("{model: flat, amount: '24.95'}", "1", "24.95"),
        ("{model: flat, amount: '10'}", "2.5", "25"),
        ("{model: per_unit, unit_price: '5.12345'}", "10", "51.2345"),
        ("{model: per_unit, unit_price: '0.05'}", "-3", "-0.15"),
        ("{model: package, size: '100', package_price: '1'}", "101", "2"),
        ("{model: package, size: '100', package_price: '1'}", "100", "1"),
        ("{model: package, size: '100', package_price: '1'}", "0", "0"),
        ("{model: package, size: '100', package_price: '1'}", "-5", "0"),
        ("{model: package, size: '10', package_price: '100', free_units: '200'}", "121", "0"),
        ("{model: package, size: '10', package_price: '1', free_units: '2'}", "12.1", "2"),
        (GRADUATED + "}", "0", "0"),
        (GRADUATED + ", flat_fee_when_unused: true}", "0", "5"),
        (GRADUATED + "}", "10", "25"),
        (GRADUATED + "}", "10.5", "28.5"),
        (GRADUATED + "}", "22", "39"),
        (GRADUATED + "}", "-2", "-4"),
        (GRADUATED.replace("graduated", "volume") + "}", "10", "25"),
        (GRADUATED.replace("graduated", "volume") + "}", "10.5", "13.5"),
        (GRADUATED.replace("graduated", "volume") + "}", "22", "11"),
        (GRADUATED.replace("graduated", "volume") + ", flat_fee_when_unused: true}", "0", "5"),
        ("{model: volume, tiers: [{unit_price: '1', package_size: '1000'}]}", "4500", "5"),
        ("{model: graduated, tiers: [{unit_price: '1', maximum: '3'}]}", "5", "3"),
        ("{model: graduated, beyond: free, tiers: [{up_to: '10', unit_price: '5'}]}", "15", "50"),
        ("{model: volume, beyond: free, tiers: [{up_to: '10', unit_price: '5'}]}", "15", "0"),
        (STEPPED + "}", "0", "0"),
        (STEPPED + "}", "-1", "0"),
        (STEPPED + "}", "100", "25"),
        (STEPPED + "}", "100.1", "20"),
        (STEPPED + "}", "9999", "15"),
        (STEPPED + ", cumulative: true}", "0", "0"),
        (STEPPED + ", cumulative: true}", "200", "45"),
        (STEPPED + ", cumulative: true}", "1001", "60"),
        (SHARES + "}", "0", "0"),
        (SHARES + ", flat_fee_when_unused: true}", "0", "200"),
        (SHARES + "}", "12", "500.14"),
        (SHARES + "}", "21", "900.33"),
        ("{model: percentage, percent: '2.9'}", "4", "0.116"),
        ("{model: percentage, percent: '1.3', free_units: '250'}", "800", "7.15"),
        ("{model: percentage, percent: '1.3', free_units: '250'}", "250", "0"),
        ("{model: percentage, percent: '1.3', free_units: '250'}", "-10", "-0.13"),
    ],
)
def test_amounts_by_hand(charge, units, amount):
    """Tier bounds are inclusive above and continuous; a fee is due once a unit lies in its tier."""
    terms = terms_of(charge)
    assert exactly(terms, Decimal(units)) == Fraction(amount)
    assert columns_of(terms, [Decimal(units)]) == [Decimal(amount)]


@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_units_beyond_a_bounded_last_tier_are_refused(model):
    """Neither free nor guessed: columns have no amount, fractions say where the tiers end."""
    terms = terms_of(f"{{model: {model}, tiers: [{{up_to: '10', unit_price: '5'}}]}}")
    assert columns_of(terms, [Decimal(10), Decimal("10.1")]) == [Decimal(50), None]
    with pytest.raises(NotCovered, match="ends at 10"):
        price_exactly(terms, Share(), start_of(terms, Fraction("10.1")))


def test_every_model_is_registered_under_the_name_of_the_grammar():
    """The registry's models are these, each for the charge it says."""
    found = {model_name(_example(kind)): kind for kind in MODELS}
    assert found == {
        "flat": Flat,
        "per_unit": PerUnit,
        "package": Package,
        "graduated": Graduated,
        "volume": Volume,
        "stairstep": Stairstep,
        "graduated_percentage": GraduatedPercentage,
        "percentage": Percentage,
    }
    rest = {model_name(_example(kind)) for kind in COMPOSED}
    assert found.keys() | rest == MODEL_NAMES.keys()
    assert all(model.kind is kind for kind, model in MODELS.items())


def _example(kind):
    return kind(**dict.fromkeys(kind.__dataclass_fields__, ()))


def test_columns_refuse_what_would_not_fit():
    """Prices too fine for their discount, or conversions, are never columns."""
    fine = terms_of("{model: per_unit, unit_price: '0.000000000001'}", discount_percent="10")
    converted = terms_of("{model: per_unit, unit_price: '1'}", convert={"divide": "3"})
    plain = terms_of("{model: per_unit, unit_price: '0.000000000001'}")
    assert [units_max(fine), units_max(converted)] == [None, None]
    assert units_max(plain) == Decimal(99999999999999999)
