"""Random contracts with terms as a whole, over prices simple enough to be beside the point."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from catalog.clock import to_micros
from tests.oracle import Event
from tests.unit.rating.businesses import Tree, decimals, maybe

START = date(2025, 11, 20)
TIMINGS = ("arrears", "advance")
PRODUCTS = ("api", "fee", "store")

days = st.integers(0, 300).map(lambda n: (START + timedelta(days=n)).isoformat())
starts = st.integers(0, 60).map(lambda n: (START + timedelta(days=n)).isoformat())
unit_prices = st.one_of(decimals(1, 9, 3), decimals(1, 40, 2), st.sampled_from(["-0.75", "0.3333"]))
money = st.one_of(decimals(5, 60, 2), decimals(50, 900, 0), decimals(0, 9, 5))
scoped = maybe(products=st.lists(st.sampled_from(PRODUCTS), min_size=1, max_size=2, unique=True))
months = st.sampled_from([1, 1, 2, 3, 5, 12])


@st.composite
def spans(draw: Any, since: str, until: str) -> Tree:
    """A beginning, an end, both in order, or neither."""
    low, high = sorted((draw(days), draw(days)))
    chosen = draw(st.sampled_from([(), (), (since,), (until,), (since, until)]))
    found = {since: low, until: high}
    return {name: found[name] for name in chosen} if low < high else {}


@st.composite
def discounts(draw: Any) -> list[Tree]:
    """Up to three."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        body = draw(
            st.one_of(
                st.fixed_dictionaries({"percent": decimals(1, 99, 2)}),
                st.fixed_dictionaries({"amount": money}),
            )
        )
        found.append(body | draw(scoped) | draw(spans("from", "until")))
    return found


@st.composite
def commitments(draw: Any) -> list[Tree]:
    """Up to two."""
    factors = st.sampled_from(["1.5", "0.333333333333", "1", "0"])
    more = maybe(every_months=months, overage_multiplier=factors, true_up=st.booleans())
    return [
        {"amount": draw(money)} | draw(more) | draw(scoped) for _ in range(draw(st.integers(1, 2)))
    ]


@st.composite
def credit_lists(draw: Any) -> list[Tree]:
    """Up to three."""
    return [
        {"id": f"c{n}", "amount": draw(money)}
        | draw(maybe(priority=st.integers(-1, 1)))
        | draw(scoped)
        | draw(spans("effective_at", "expires_at"))
        for n in range(draw(st.integers(1, 3)))
    ]


TERMS: dict[str, st.SearchStrategy[Any]] = {
    "discounts": discounts(),
    "commitments": commitments(),
    "credits": credit_lists(),
    "minimum": st.fixed_dictionaries({"amount": money, "every_months": months}),
    "trial": st.fixed_dictionaries({"days": st.integers(1, 70)}),
}


@st.composite
def cadences(draw: Any, *timings: str) -> Tree:
    """A cadence with one of ``timings``, mostly of months."""
    found: Tree = {"timing": draw(st.sampled_from(timings))}
    if found["timing"] != "once":
        every = [("every_months", n) for n in (1, 1, 1, 2, 3, 12)]
        unit, length = draw(st.sampled_from([*every, ("every_weeks", 2), ("every_days", 10)]))
        found[unit] = length
    if draw(st.integers(0, 4)) == 4:
        found["after_months"] = 1
    anchors = ["contract", "calendar"] + (["month"] if "every_months" in found else [])
    return found | draw(maybe(anchor=st.sampled_from(anchors)))


@st.composite
def contracts(draw: Any) -> Tree:
    """A contract with any terms, on the one pricebook."""
    names = st.lists(st.sampled_from(sorted(TERMS)), min_size=2, unique=True)
    found: Tree = {"customer": "c", "pricebook": "b", "start": draw(starts)}
    found |= {name: draw(TERMS[name]) for name in draw(names)}
    found |= draw(maybe(prorate=st.sampled_from(["days", "seconds"])))
    found |= draw(maybe(timezone=st.sampled_from(["Europe/Berlin", "America/New_York"])))
    found |= draw(maybe(invoicing=cadences(*["arrears"] * 6, "advance", "once")))
    start = date.fromisoformat(found["start"])
    if draw(st.booleans()):
        found["end"] = (start + timedelta(days=draw(st.integers(100, 400)))).isoformat()
    if draw(st.integers(0, 2)) == 0:
        amended = draw(maybe(discounts=discounts(), commitments=commitments()))
        amended["effective_from"] = (start + timedelta(days=draw(st.integers(1, 99)))).isoformat()
        found["amendments"] = [amended]
    return found


@st.composite
def trees(draw: Any) -> Tree:
    """Two metered products and a fee, each on a cadence of its own, and one contract."""
    prices = []
    more = st.lists(st.sampled_from(PRODUCTS), min_size=1, max_size=3)
    for product in ("api", *draw(more)):
        price: Tree = {"product": product, "id": f"p{len(prices)}"}
        amount = draw(unit_prices)
        if product == "fee":
            price["charge"] = {"model": "flat", "amount": amount}
            price["invoicing"] = draw(cadences(*TIMINGS, *TIMINGS, "once"))
        else:
            price["charge"] = {"model": "per_unit", "unit_price": amount}
            price["invoicing"] = draw(cadences(*["arrears"] * 7, "once"))
        prices.append(price)
    book = {
        "currency": draw(st.sampled_from(["USD", "JPY", "KWD"])),
        "invoicing": draw(cadences("arrears")),
        "prices": prices,
    }
    meters = {
        name: {"event_type": name, "aggregation": "sum", "value": "data.v"}
        for name in ("api", "store")
    }
    return {
        "meters": meters,
        "products": {"fee": {"name": "fee"}} | {m: {"name": m, "meter": m} for m in meters},
        "pricebooks": {"b": book},
        "customers": {"c": {"name": "c", "subjects": ["c"]}},
        "contracts": {"k": draw(contracts())},
    }


values = st.one_of(st.integers(1_000, 60_000), st.integers(1_000, 9_999), st.integers(-2_000, 0))


@st.composite
def events(draw: Any) -> list[Event]:
    """Usage of both meters over a year and a half."""
    found = []
    for n in range(draw(st.integers(8, 20))):
        start = datetime(START.year, START.month, START.day, tzinfo=UTC)
        micros = to_micros(start) + draw(st.integers(0, 300 * 86_400)) * 1_000_000
        value = Decimal(draw(values)).scaleb(-3)
        meter = draw(st.sampled_from(["api", "store"]))
        found.append(
            Event(meter=meter, subject="c", time=micros, received_at=micros + 1 + n, value=value)
        )
    return found


periods = st.sampled_from(["2026", "2026", "2026-Q2", "2026-03", "2026-06", "2026-08"])
