"""Every charge model and aggregation against the naive oracle: one price, much usage of it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.clock import to_micros
from catalog.errors import OutOfRange
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.pipeline import rate
from storage.memory.facts import MemoryFactSource
from tests.oracle import Event, Refused, oracle
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import (
    DIMENSIONS,
    METERS,
    REGIONS,
    START,
    Tree,
    catalog_from,
    costs,
    counted,
    facts_of,
    invoicings,
    maybe,
    shaped_meters,
    source_of,
    values,
)
from tests.unit.rating.test_oracle import as_lines

YEAR = PeriodSpec.parse("2026")
MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def businesses(draw: Any) -> Tree:
    """One price of one meter, under a contract that starts late in 2025."""
    meters = METERS | {"shaped": draw(shaped_meters())}
    name = draw(st.sampled_from(["summed", "summed", "shaped", "shaped", "counted"]))
    price = {"product": name, "id": "the", **draw(counted(meters[name]))}
    subjects = ["s1", {"subject": "s2", "from": "2026-01-20", "until": "2026-02-11"}]
    contract = {"customer": "c1", "pricebook": "b1", "start": "2025-12-15", "end": "2026-06-15"}
    zone = maybe(timezone=st.sampled_from(["Europe/Berlin", "America/New_York"]))
    return {
        "meters": {key: body | {"dimensions": DIMENSIONS} for key, body in meters.items()},
        "products": {name: {"name": name, "meter": name}},
        "pricebooks": {
            "b1": {
                "currency": draw(st.sampled_from(["USD", "JPY", "KWD"])),
                "invoicing": draw(invoicings("arrears", "arrears", "once")),
                "prices": [price],
            }
        },
        "customers": {"c1": {"name": "c1", "subjects": subjects}},
        "contracts": {"k": contract | draw(zone)},
    }


@st.composite
def usages(draw: Any) -> list[Event]:
    """Much usage, half of it within one day, some of it on the hour."""
    found = []
    day = to_micros(START + timedelta(days=draw(st.sampled_from([50, 70, 93, 108, 128, 129]))))
    for n in range(draw(st.integers(3, 40))):
        near = day + draw(st.integers(0, 96)) * 900_000_000
        far = to_micros(START) + draw(st.integers(0, 210 * 86_400)) * 1_000_000
        time = draw(st.sampled_from([near, near, far])) + draw(st.sampled_from([0, 0, 1, -1]))
        named = draw(maybe(region=st.sampled_from(REGIONS), model=st.sampled_from("ab")))
        meter = draw(st.sampled_from(["summed", "summed", "shaped", "shaped", "counted"]))
        found.append(
            Event(
                meter=meter,
                subject=draw(st.sampled_from(["s1", "s1", "s2"])),
                time=time,
                received_at=time + 1 + n,
                value=None if meter == "counted" else draw(values),
                dimensions=tuple(sorted(named.items())),
                cost=draw(costs),
            )
        )
    return found


@pytest.mark.slow
@MANY
@given(tree=businesses(), found=usages())
def test_every_model_is_the_oracles_to_the_cent(tree, found):
    """Matrix, events, windows, hours, spans, plans, levels: same lines, or refused where it is."""
    catalog = catalog_from(tree)
    try:
        expected = oracle(catalog, found, first=YEAR.first, until=YEAR.until, as_of=LATER)
    except Refused:
        with pytest.raises((NotCovered, OutOfRange)):
            rate(catalog, period=YEAR, source=source_of(catalog, found), as_of=LATER)
        return
    beyond = any(abs(line.amount) >= 10**17 or abs(line.quantity) >= 10**18 for line in expected)
    if beyond:
        with pytest.raises(OutOfRange):
            rate(catalog, period=YEAR, source=source_of(catalog, found), as_of=LATER)
        return
    result = rate(catalog, period=YEAR, source=source_of(catalog, found), as_of=LATER)
    assert as_lines(result.lines) == expected


@pytest.mark.slow
@settings(parent=MANY, max_examples=30)
@given(tree=businesses(), found=usages(), seed=st.integers(0, 2**32))
def test_the_order_of_facts_does_not_matter(tree, found, seed):
    """Facts in any order give the same bytes."""
    catalog = catalog_from(tree)
    facts = facts_of(catalog, found)
    try:
        whole = rate(catalog, period=YEAR, source=MemoryFactSource(facts), as_of=LATER).lines
    except (NotCovered, OutOfRange):
        return
    order = random.Random(seed).sample(range(facts.height), facts.height)
    shuffled = MemoryFactSource(facts[order])
    assert rate(catalog, period=YEAR, source=shuffled, as_of=LATER).lines.equals(whole)
