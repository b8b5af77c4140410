"""How many lines a change of the catalog rates anew."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.changes import plan
from catalog.errors import DomainError
from catalog.grammar import parse_document
from catalog.periods import PeriodSpec
from rating.pipeline import rate
from rating.rerated import LINES_MAX, lines_rerated
from tests.unit.rating.builders import at, catalog_of
from tests.unit.rating.businesses import catalog_from, events, source_of, trees

BUSINESS = """
meters: {m: {event_type: t, aggregation: count}}
products: {p: {name: p, meter: m}, fee: {name: fee}}
pricebooks:
  b:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: p, charge: {model: per_unit, unit_price: 1}}
      - {product: fee, charge: {model: flat, amount: 1}}
customers: {c: {name: c, subjects: [s]}, d: {name: d, subjects: [t]}}
contracts:
  k: {customer: c, pricebook: b, start: 2026-01-01}
  own: {customer: d, currency: USD, invoicing: {timing: arrears, every_months: 1},
        start: 2026-01-01, end: 2026-02-01,
        prices: [{product: p, charge: {model: per_unit, unit_price: 1}}]}
"""
NOW, END = at("2026-03-10"), at("2027-01-01")


def counted(change: str, *, now: int = NOW) -> int:
    """The lines that applying ``change`` to the business rates anew."""
    before = catalog_of(BUSINESS)
    after = plan(before, parse_document(yaml.load(change, Loader=yaml.BaseLoader))).catalog
    return lines_rerated(before, after, as_of=now)


BOOK = "pricebooks: {b: {currency: USD, invoicing: {timing: arrears, every_months: 1}, %s}}"
PRICES = (
    "prices: [{product: p, charge: {model: per_unit, unit_price: 2}},"
    " {product: fee, charge: {model: flat, amount: 1}}]"
)
CONTRACT = "contracts: {k: {customer: c, pricebook: b, start: 2026-01-01, %s}}"


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        # a correction of one of two list prices: three months have begun, one contract follows
        (BOOK % PRICES, 3),
        # the same from March on: January and February stand
        (BOOK % f"{PRICES}, effective_from: 2026-03-01", 1),
        (BOOK % f"{PRICES}, effective_from: 2026-04-01", 0),
        # a price of the contract's own stands in for the list's
        (CONTRACT % "prices: [{product: p, multiply: 0.9}]", 3),
        (CONTRACT % "end: 2026-02-01", 4),
        # what acts on the contract as a whole acts on all its lines
        (CONTRACT % "discounts: [{percent: 5}]", 6),
        (CONTRACT % "metadata: {note: nothing of money}", 0),
        # new lines are not rated anew
        ("contracts: {new: {customer: c, pricebook: b, start: 2026-01-01}}", 0),
        # usage of another subject, the fee as before
        ("customers: {c: {name: c, subjects: [s, u]}}", 3),
        ("customers: {c: {name: renamed, subjects: [s]}}", 0),
        ("meters: {m: {event_type: [t, u], aggregation: count}}", 4),
        ("products: {p: {name: renamed, meter: m}}", 0),
    ],
)
def test_lines_that_a_change_touches_are_counted(change, lines):
    """Those of billing periods begun by 10 March, whose terms or usage are others."""
    assert counted(change) == lines


def test_periods_that_have_not_begun_are_not_counted():
    """On 31 January there is one line of the price that changes."""
    assert counted(BOOK % PRICES, now=at("2026-01-31")) == 1


def test_counting_stops():
    """A daily contract from 1998 on: there is a bound on the work, and the answer says so."""
    daily = BUSINESS.replace("every_months: 1", "every_days: 1")
    daily = daily.replace("2026-01-01}", "1998-01-01}")
    before = catalog_of(daily)
    change = BOOK.replace("every_months: 1", "every_days: 1") % PRICES
    after = plan(before, parse_document(yaml.load(change, Loader=yaml.BaseLoader))).catalog
    assert lines_rerated(before, after, as_of=NOW) == LINES_MAX


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(), found=events(), data=st.data())
def test_every_line_that_comes_out_otherwise_was_counted(tree, found, data):
    """Whatever list price changes: no more lines change or go than were told."""
    before = catalog_from(tree)
    price = data.draw(st.sampled_from(tree["pricebooks"]["b1"]["prices"]))
    price["discount_percent"] = "50"
    after = plan(before, parse_document(tree)).catalog
    period, usage = PeriodSpec.parse("2026"), source_of(before, found)
    try:
        old, new = (
            {r["line_id"]: r["amount"] for r in rated.lines.iter_rows(named=True)}
            for rated in (
                rate(catalog, period=period, source=usage, as_of=END, zeros=True)
                for catalog in (before, after)
            )
        )
    except DomainError:
        return
    changed = {line.rpartition("~")[0] for line, amount in old.items() if new.get(line) != amount}
    assert len(changed) <= lines_rerated(before, after, as_of=END)
