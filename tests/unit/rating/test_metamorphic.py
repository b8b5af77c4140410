"""What must not change a bill, or changes it in a way that is known, over random businesses."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from catalog.errors import OutOfRange
from catalog.money import PRICE
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.pipeline import rate
from tests.oracle import Event
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import Tree, catalog_from, events, source_of, trees

YEAR = PeriodSpec.parse("2026")
SOME = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)


def lines_of(tree: Tree, found: list[Event]) -> pl.DataFrame | None:
    """The year's lines; null where they are refused."""
    catalog = catalog_from(tree)
    try:
        return rate(catalog, period=YEAR, source=source_of(catalog, found), as_of=LATER).lines
    except (NotCovered, OutOfRange):
        return None


@SOME
@given(tree=trees(), found=events(), day=st.sampled_from(["2026-03-17", "2026-04-01"]))
def test_an_amendment_that_changes_nothing_changes_nothing(tree, found, day):
    """It says again what stands: not one line is split, or names another price."""
    amended = deepcopy(tree)
    for contract in amended["contracts"].values():
        if contract["start"] < day:
            again = {"effective_from": day, "prices": contract["prices"]}
            contract["amendments"] = [again, *contract.get("amendments", [])]
    before, after = lines_of(tree, found), lines_of(amended, found)
    assert (before is None) == (after is None)
    if before is not None:
        assert after.equals(before)


MONEY = {
    "unit_price", "package_price", "flat_fee", "fixed", "event_minimum", "event_maximum",
    "minimum", "maximum", "percent", "multiplier", "amount",
}  # fmt: skip
"""What is money, or makes it of usage. (Discounts are ``discount_percent``.)"""


def scaled(tree: Any, key: str = "") -> Any:
    """The document with a hundred of a new currency for one of the old."""
    if isinstance(tree, dict):
        found = {name: scaled(value, name) for name, value in tree.items()}
        if found.get("model") == "dynamic":
            found.setdefault("multiplier", "100")
        return found
    if isinstance(tree, list):
        return [scaled(item, key) for item in tree]
    if key == "currency":
        return {"USD": "JPY"}[tree]
    if key not in MONEY or str(tree).startswith("data."):
        return tree
    number = Decimal(str(tree)) * 100
    assume(abs(number) <= 1000 if key == "percent" else abs(number) < PRICE.below)
    return f"{number:f}"


@SOME
@given(tree=trees(), found=events())
def test_a_hundred_yen_for_a_dollar_bills_a_hundred_times_as_much(tree, found):
    """The yen has no cents: every line is rounded at the same place."""
    before, after = lines_of(tree, found), lines_of(scaled(tree), found)
    assume(before is not None and after is not None)
    assert set(after["currency"]) <= {"JPY"}
    kept = ["line_id", "quantity", "event_count", "kind", "period_start"]
    assert after.select(kept).equals(before.select(kept))
    assert after["amount"].to_list() == [amount * 100 for amount in before["amount"]]


EACH = ("fixed", "free_events", "event_minimum", "event_maximum")


@SOME
@given(tree=trees(), found=events(), parts=st.integers(2, 4))
def test_usage_sent_in_pieces_is_billed_as_if_sent_at_once(tree, found, parts):
    """A sum does not tell one event from several at its instant, but for how many there were."""
    assume(not any(f'"{term}"' in json.dumps(tree["pricebooks"]) for term in EACH))
    assume(not any(f'"{term}"' in json.dumps(tree["contracts"]) for term in EACH))
    pieces = [piece for event in found for piece in in_pieces(event, parts)]
    before, after = lines_of(tree, found), lines_of(tree, pieces)
    assert (before is None) == (after is None)
    if before is not None:
        assert after.drop("event_count").equals(before.drop("event_count"))


def in_pieces(event: Event, parts: int) -> list[Event]:
    """An event of the summed meter as several; what it costs by itself is the first one's."""
    if event.meter != "summed":
        return [event]
    small = Decimal("0.001")
    first = replace(event, value=event.value - small * (parts - 1))
    return [first, *[replace(event, value=small, cost=None)] * (parts - 1)]
