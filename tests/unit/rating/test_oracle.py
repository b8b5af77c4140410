"""Rating against a naive oracle: random catalogs, contracts, usage, orders and batches."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.clock import to_micros
from catalog.errors import OutOfRange
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.pipeline import rate
from storage.memory.facts import MemoryFactSource
from tests.oracle import Line, Refused, oracle
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import (
    as_ofs,
    catalog_from,
    events,
    facts_of,
    periods,
    source_of,
    trees,
)

MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FOREVER = 10**18


def as_lines(frame) -> list[Line]:
    """LINES in the oracle's form."""
    found = [
        Line(
            contract=row["contract"],
            product=row["product"],
            start=to_micros(row["period_start"]),
            end=to_micros(row["period_end"]) if row["period_end"] else FOREVER,
            dimensions=row["dimensions"],
            kind=row["kind"],
            timing=row["timing"],
            currency=row["currency"],
            quantity=row["quantity"],
            amount=row["amount"],
            events=row["event_count"],
        )
        for row in frame.iter_rows(named=True)
    ]
    return sorted(found)


@MANY
@given(tree=trees(), found=events(), text=periods, as_of=as_ofs)
def test_every_line_is_the_oracles_to_the_cent(tree, found, text, as_of):
    """Same lines, same bounds, same quantities, same amounts; refused where it refuses."""
    catalog, spec = catalog_from(tree), PeriodSpec.parse(text)
    try:
        expected = oracle(catalog, found, first=spec.first, until=spec.until, as_of=as_of)
    except Refused:
        with pytest.raises((NotCovered, OutOfRange)):
            rate(catalog, period=spec, source=source_of(catalog, found), as_of=as_of)
        return
    if any(abs(line.amount) >= 10**17 for line in expected):
        with pytest.raises(OutOfRange):
            rate(catalog, period=spec, source=source_of(catalog, found), as_of=as_of)
        return
    result = rate(catalog, period=spec, source=source_of(catalog, found), as_of=as_of)
    assert as_lines(result.lines) == expected


@pytest.mark.slow
@settings(parent=MANY, max_examples=25)
@given(tree=trees(), found=events(), seed=st.integers(0, 2**32))
def test_order_and_batches_do_not_matter(tree, found, seed):
    """Facts permuted, and the contracts rated one at a time, give the same bytes."""
    catalog, spec = catalog_from(tree), PeriodSpec.parse("2026")
    facts = facts_of(catalog, found)
    order = random.Random(seed).sample(range(facts.height), facts.height)
    as_of = LATER
    try:
        whole = rate(catalog, period=spec, source=MemoryFactSource(facts), as_of=as_of).lines
    except (NotCovered, OutOfRange):
        return
    permuted = MemoryFactSource(facts[order])
    assert rate(catalog, period=spec, source=permuted, as_of=as_of).lines.equals(whole)
    for contract in catalog.contracts:
        alone = rate(
            catalog, period=spec, source=MemoryFactSource(facts), as_of=as_of, contracts=[contract]
        ).lines
        assert alone.equals(whole.filter(contract=contract))
