"""Quantities that somebody gives are priced as if events had said them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings

from catalog.errors import OutOfRange
from catalog.ids import ContractId
from catalog.money import from_units
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.claims import claims_of
from rating.given import Given, NotQuotable, asks_more, measure_given
from rating.pipeline import Asked, from_facts, prepare, rated_lines
from tests.unit.rating.builders import LATER, dimensions_text
from tests.unit.rating.businesses import catalog_from, events, source_of, trees

KNOWN_IN_PARTS = {"sum", "count", "min", "max", "latest"}


def alone(catalog):
    """The catalog with its first contract only."""
    first = ContractId("k0")
    return replace(catalog, contracts={first: catalog.contracts[first]}), first


def counted(catalog, contract, found):
    """The events that the contract's customer pays for, of meters whose parts make a whole."""
    claims = claims_of(catalog, catalog.contracts[contract].last.customer)
    for event in found:
        meter = catalog.meters[event.meter].last
        paid = any(c.subject == event.subject and c.start <= event.time < c.end for c in claims)
        if paid and meter.aggregation in KNOWN_IN_PARTS and meter.window is None:
            yield event


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(), found=events())
def test_quantities_are_priced_as_the_events_they_stand_for(tree, found):
    """One quantity an event: the same lines, to the cent, whatever the prices and terms."""
    catalog, contract = alone(catalog_from(tree))
    taken = list(counted(catalog, contract, found))
    asked = Asked(period=PeriodSpec.parse("2026"), as_of=LATER)
    plans = prepare(catalog, asked).plans
    assume(plans and not any(asks_more(plan.terms) for plan in plans))
    quantities = [
        Given(
            meter=event.meter,
            at=event.time,
            quantity=from_units(1, 0) if event.value is None else event.value,
            dimensions=dimensions_text(dict(event.dimensions)),
        )
        for event in taken
    ]
    try:
        told = rated_lines(catalog, asked, from_facts(source_of(catalog, taken), LATER)).lines
    except (NotCovered, OutOfRange):
        return
    try:
        quoted = rated_lines(catalog, asked, measure_given(quantities)).lines
    except NotQuotable:
        return
    assert quoted.drop("event_count").equals(told.drop("event_count"))
