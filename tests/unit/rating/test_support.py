"""What cannot be rated yet is refused by its name; what is not refused is rated."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from catalog.charges import Dynamic, PerUnit, Stairstep
from catalog.contracts import (
    Amendment,
    Commitment,
    Contract,
    Credit,
    Discount,
    Minimum,
)
from catalog.ids import ContractId, CustomerId, ProductId
from catalog.periods import PeriodSpec
from catalog.pricebooks import Price, PriceCommitment
from rating.plan import Accounted, plan_lines
from rating.support import UnsupportedTerms, unsupported
from tests.unit.rating.builders import LATER, catalog_of

ONE = Decimal(1)
PRICE = Price(product=ProductId("p"), charge=PerUnit(unit_price=ONE))
CONTRACT = Contract(id=ContractId("k"), customer=CustomerId("c"), start=date(2026, 1, 1))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"charge": Dynamic(amount="data.cost")}, "charge model dynamic"),
        ({"charge": Stairstep(tiers=())}, "charge model stairstep"),
        ({"bucket": "1h"}, "bucket"),
        ({"hours": ("00:00-06:00",)}, "hours"),
        ({"tiers_span_months": 12}, "tiers_span"),
        ({"commitment": PriceCommitment(amount=ONE)}, "commitment"),
    ],
)
def test_prices(change, name):
    """Each term and model of the grammar that does not rate yet, alone."""
    assert unsupported(PRICE) == []
    assert unsupported(replace(PRICE, **change)) == [f"{name} cannot be rated yet"]


DISCOUNT = (Discount(percent=ONE),)
COMMITMENT = (Commitment(amount=ONE),)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"discounts": DISCOUNT}, "discounts"),
        ({"minimum": Minimum(amount=ONE, every_months=1)}, "minimum"),
        ({"commitments": COMMITMENT}, "commitments"),
        ({"credits": (Credit(id="c", amount=ONE),)}, "credits"),
        ({"trial": timedelta(days=14)}, "trial"),
        (
            {"amendments": (Amendment(effective_from=date(2026, 2, 1), discounts=DISCOUNT),)},
            "amendments.discounts",
        ),
        (
            {"amendments": (Amendment(effective_from=date(2026, 2, 1), commitments=COMMITMENT),)},
            "amendments.commitments",
        ),
    ],
)
def test_contracts(change, name):
    """Terms of the whole contract come later; overrides, pins and amendments of prices rate."""
    assert unsupported(CONTRACT) == []
    assert unsupported(replace(CONTRACT, pin=True)) == []
    assert unsupported(replace(CONTRACT, **change)) == [f"{name} cannot be rated yet"]


def test_a_contract_with_terms_that_do_not_rate_is_not_rated():
    """Should such a catalog be stored all the same: an error that names it, not a bill without."""
    catalog = catalog_of("""
    pricebooks: {b: {currency: USD, invoicing: {timing: arrears, every_months: 1}, prices: []}}
    customers: {c: {name: C, subjects: []}}
    contracts: {k: {customer: c, pricebook: b, start: 2026-01-01, discounts: [{percent: 10}]}}
    """)
    with pytest.raises(UnsupportedTerms, match="contract k: discounts"):
        plan_lines(catalog, Accounted(PeriodSpec.parse("2026-01"), LATER))
