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
from catalog.pricebooks import Price, PriceCommitment
from rating.support import unsupported

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
