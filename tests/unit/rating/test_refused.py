"""What docs/rating.md says is refused is refused when it is applied, at the price it is in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.changes import plan
from catalog.grammar import InvalidDocument, parse_document
from catalog.snapshot import Catalog
from rating.support import unsupported

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "rating.md"
UNIT = {"model": "per_unit", "unit_price": "1"}
EVENTS = {"model": "percentage", "percent": "1", "fixed": "1"}
DYNAMIC = {"model": "dynamic", "amount": "data.cost"}
CAPACITY = {"model": "capacity", "tiers": [{"amount": "1"}]}
MATRIX = {"model": "matrix", "rows": [{"when": {"d": "a"}, "unit_price": "1"}]}
PERCENT_ROW = {"model": "matrix", "rows": [{"when": {"d": "a"}, "charge": EVENTS}]}
BOUNDED = {"model": "volume", "tiers": [{"up_to": "5", "unit_price": "1"}]}
UNITS = (
    {"convert": {"divide": "2"}},
    {"included": "1"},
    {"bucket": "1h"},
    {"tiers_span": {"every_months": "12"}},
    {"quantity": "1"},
)
SPAN = UNITS[3]
PROMISE = {"commitment": {"amount": "1"}}
OTHERS = ("min", "average", "latest", "percentile", "weighted_sum")


def on(aggregation: str, **more: str) -> dict[str, object]:
    """A meter of another kind."""
    named = {"percentile": "95"} if aggregation == "percentile" else {}
    return {"meter": {"aggregation": aggregation, **named, **more}}


ROWS = (
    [{"charge": charge} | term for charge in (DYNAMIC, EVENTS, CAPACITY) for term in UNITS]
    + [{"charge": CAPACITY, "group_by": ["d"]}],
    [
        {"charge": EVENTS} | on("max"),
        {"charge": EVENTS} | on("sum", window="5m"),
        {"charge": PERCENT_ROW},
    ],
    [{"charge": MATRIX, "quantity": "1"}],
    [{"charge": MATRIX, "included": "1"} | SPAN],
    [{"bucket": "1h"} | SPAN, {"bucket": "1h"} | on("sum", window="5m")],
    [SPAN | {"quantity": "1"}] + [SPAN | on(aggregation) for aggregation in OTHERS],
    [
        {"bucket": "1h"} | on("weighted_sum"),
        {"hours": ["00:00-06:00"]} | on("weighted_sum"),
        on("weighted_sum", window="1h"),
    ],
    [
        {"charge": BOUNDED, "quantity": "6"},
        {"charge": BOUNDED, "commitment": {"quantity": "6"}},
    ],
    [PROMISE | SPAN] + [PROMISE | {"charge": c} for c in (MATRIX, DYNAMIC, CAPACITY, EVENTS)],
)
"""Prices for each row of the table, in its order."""


def applied(given: dict[str, object]) -> None:
    """Apply a catalog with one such price."""
    price: dict[str, object] = {"product": "p", "charge": UNIT} | given
    meter = {"event_type": "t", "aggregation": "sum", "value": "data.n"}
    meter |= {"dimensions": {"d": "data.d"}} | price.pop("meter", {})  # type: ignore[operator]
    cadence = {"timing": "arrears", "every_months": "1"}
    tree = {
        "meters": {"m": meter},
        "products": {"p": {"name": "P", "meter": "m"}},
        "pricebooks": {"b": {"currency": "USD", "invoicing": cadence, "prices": [price]}},
    }
    plan(Catalog(), parse_document(tree), unsupported=unsupported)


@pytest.mark.parametrize("given", [each for row in ROWS for each in row], ids=json.dumps)
def test_it_is_refused_at_the_price(given):
    """By a pointer into the document, and a sentence that names what does not go together."""
    with pytest.raises(InvalidDocument) as refused:
        applied(given)
    pointers = {error.pointer for error in refused.value.errors}
    assert all(pointer.startswith("/pricebooks/b/prices/0") for pointer in pointers) or (
        pointers == {"/meters/m/window"}
    ), refused.value


def test_the_guides_table_has_these_rows():
    """A row there is a row here."""
    table = GUIDE.read_text().partition("## What is refused")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(ROWS)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"charge": MATRIX, "included": "1"},
        {"charge": DYNAMIC, "hours": ["00:00-06:00"], "group_by": ["d"]},
        {"charge": BOUNDED, "quantity": "5"},
        SPAN | on("unique_count"),
        on("weighted_sum") | {"included": "1", "convert": {"divide": "2"}},
        PROMISE | {"bucket": "1h"},
    ],
)
def test_what_is_near_it_is_taken(given):
    """The same prices without what they are refused for."""
    applied(given)
