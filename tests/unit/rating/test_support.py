"""What cannot be rated yet is refused by its name; what is not refused is rated."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from catalog.charges import (
    Beyond,
    Capacity,
    CapacityTier,
    Dynamic,
    Matrix,
    MatrixRow,
    Percentage,
    PerUnit,
    Tier,
    Volume,
)
from catalog.contracts import (
    Amendment,
    Commitment,
    Contract,
    Credit,
    Discount,
    Minimum,
)
from catalog.ids import ContractId, CustomerId, MeterId, ProductId
from catalog.meters import Aggregation, Meter
from catalog.periods import PeriodSpec
from catalog.pricebooks import Conversion, Price, PriceCommitment
from catalog.references import Counted
from rating.plan import Accounted, plan_lines
from rating.support import UnsupportedTerms, unsupported
from tests.unit.rating.builders import LATER, catalog_of

ONE = Decimal(1)
DYNAMIC = Dynamic(amount="data.cost")
EVENTS = Percentage(percent=ONE, fixed=ONE)
CAPACITY = Capacity(tiers=(CapacityTier(up_to=None, amount=ONE),))
MATRIX = Matrix(rows=(MatrixRow(when=(("d", "a"),), charge=PerUnit(unit_price=ONE)),))
BOUNDED = Volume(tiers=(Tier(up_to=Decimal(5), unit_price=ONE),))
METER = Meter(id=MeterId("m"), event_types=("t",), aggregation=Aggregation.SUM, value="data.v")
PRICE = Price(product=ProductId("p"), charge=PerUnit(unit_price=ONE))
CONTRACT = Contract(id=ContractId("k"), customer=CustomerId("c"), start=date(2026, 1, 1))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"bucket": "1h", "tiers_span_months": 12}, "bucket with tiers_span"),
        ({"charge": DYNAMIC, "included": ONE}, "included with a charge of model dynamic"),
        ({"charge": DYNAMIC, "bucket": "1h"}, "bucket with a charge of model dynamic"),
        ({"charge": EVENTS, "convert": Conversion()}, "convert with a charge of model percentage"),
        ({"charge": CAPACITY, "group_by": ("d",)}, "group_by with a charge of model capacity"),
        ({"charge": MATRIX, "quantity": ONE}, "quantity with a charge of model matrix"),
        (
            {"charge": MATRIX, "included": ONE, "tiers_span_months": 12},
            "included and tiers_span with a charge of model matrix",
        ),
        (
            {"charge": Matrix(rows=(MatrixRow(when=(("d", "a"),), charge=EVENTS),))},
            "a row with a percentage of each event with a charge of model matrix",
        ),
        (
            {"quantity": ONE, "tiers_span_months": 12},
            "quantity with tiers_span with a charge of model per_unit",
        ),
        (
            {"commitment": PriceCommitment(amount=ONE), "tiers_span_months": 12},
            "commitment with tiers_span",
        ),
        (
            {"charge": BOUNDED, "quantity": Decimal("5.5")},
            "a quantity of 5.5, which no tier covers,",
        ),
        (
            {"charge": BOUNDED, "commitment": PriceCommitment(quantity=Decimal(6))},
            "a commitment of 6 units, which no tier covers,",
        ),
        (
            {"commitment": PriceCommitment(amount=ONE), "charge": MATRIX},
            "commitment with a charge of model matrix",
        ),
    ],
)
def test_prices(change, name):
    """Each term and model of the grammar that does not rate yet, alone."""
    assert unsupported(PRICE) == []
    assert unsupported(replace(PRICE, **change)) == [f"{name} cannot be rated yet"]


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": Decimal(5)},
        {"quantity": Decimal(50), "convert": Conversion(divide=Decimal(10))},
        {"quantity": Decimal(9), "included": Decimal(4)},
        {"quantity": Decimal(9), "charge": replace(BOUNDED, beyond=Beyond.FREE)},
        {"commitment": PriceCommitment(quantity=Decimal(5))},
    ],
)
def test_fixed_numbers_of_units_that_are_covered(change):
    """What is priced decides: after conversion, without the included ones."""
    assert unsupported(replace(replace(PRICE, charge=BOUNDED), **change)) == []


@pytest.mark.parametrize(
    ("price", "meter", "name"),
    [
        (
            {"charge": EVENTS},
            {"aggregation": Aggregation.MAX},
            "a percentage with terms for each event on a max meter",
        ),
        (
            {"charge": EVENTS},
            {"window": "5m"},
            "a percentage with terms for each event on a sum meter with a window",
        ),
        ({"bucket": "1h"}, {"window": "5m"}, "bucket on a sum meter with a window"),
        (
            {"bucket": "1h"},
            {"aggregation": Aggregation.WEIGHTED_SUM},
            "bucket on a weighted_sum meter",
        ),
        (
            {"hours": ("00:00-06:00",)},
            {"aggregation": Aggregation.WEIGHTED_SUM},
            "hours on a weighted_sum meter",
        ),
        (
            {"tiers_span_months": 12},
            {"aggregation": Aggregation.LATEST},
            "tiers_span on a latest meter",
        ),
        ({}, {"aggregation": Aggregation.WEIGHTED_SUM, "window": "5m"}, "window of a weighted_sum"),
    ],
)
def test_meters(price, meter, name):
    """What a price cannot count, though price and meter are fine alone."""
    counted = Counted(price=replace(PRICE, **price), meter=replace(METER, **meter))
    assert unsupported(replace(counted, price=PRICE, meter=METER)) == []
    assert unsupported(counted) == [f"{name} cannot be rated yet"]


DISCOUNT = (Discount(percent=ONE),)
COMMITMENT = (Commitment(amount=ONE),)


@pytest.mark.parametrize(
    "change",
    [
        {"pin": True},
        {"discounts": DISCOUNT},
        {"minimum": Minimum(amount=ONE, every_months=1)},
        {"commitments": COMMITMENT},
        {"credits": (Credit(id="c", amount=ONE),)},
        {"trial": timedelta(days=14)},
        {"amendments": (Amendment(effective_from=date(2026, 2, 1), discounts=DISCOUNT),)},
        {"amendments": (Amendment(effective_from=date(2026, 2, 1), commitments=COMMITMENT),)},
    ],
)
def test_every_term_of_a_contract_rates(change):
    """Nothing that a contract says as a whole is refused."""
    assert unsupported(replace(CONTRACT, **change)) == []


def test_a_price_that_does_not_rate_is_not_rated():
    """Should such a catalog be stored all the same: an error that names it, not a bill without."""
    catalog = catalog_of("""
    meters: {m: {event_type: t, aggregation: sum, value: data.n}}
    products: {p: {name: P, meter: m}}
    pricebooks:
      b:
        currency: USD
        invoicing: {timing: arrears, every_months: 1}
        prices:
          - product: p
            charge: {model: per_unit, unit_price: 1}
            commitment: {amount: 5}
            tiers_span: {every_months: 12}
    customers: {c: {name: C, subjects: []}}
    contracts: {k: {customer: c, pricebook: b, start: 2026-01-01}}
    """)
    with pytest.raises(UnsupportedTerms, match="contract k: commitment with tiers_span"):
        plan_lines(catalog, Accounted(PeriodSpec.parse("2026-01"), LATER))
