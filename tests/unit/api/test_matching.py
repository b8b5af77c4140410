"""Why an event is in no line: what a price takes of the usage that its product has."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from api.matching import Matcher
from tests.unit.rating.builders import catalog_of

DYNAMIC = "{model: dynamic, amount: data.cost}"
UNIT = "{model: per_unit, unit_price: 1}"


def matcher(price: str, aggregation: str = "sum", contract: str = "") -> Matcher:
    """One price of ``data.n``, under a contract on Berlin's clock since 10 January 2026."""
    return Matcher(
        catalog_of(f"""
    meters: {{m: {{event_type: t, aggregation: {aggregation}, value: data.n}}}}
    products: {{p: {{name: P, meter: m}}}}
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts:
      k:
        customer: c
        start: 2026-01-10
        end: 2026-12-10
        timezone: Europe/Berlin
        currency: EUR
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, {price}}}]
        {contract}
    """)
    )


def reason(found: Matcher, time: str, data: str = '{"n":1}') -> str | None:
    """Why one event at ``time`` (UTC) is in no line."""
    moment = datetime.fromisoformat(f"{time}+00:00")
    row = {"source": "x", "id": "e", "type": "t", "subject": "s", "time_given": True}
    row |= {"time": moment, "received_at": moment, "data": data}
    schema = {name: pl.Datetime("us", "UTC") for name in ("time", "received_at")}
    (why,) = found.reasons(pl.DataFrame([row], schema_overrides=schema)).to_list()
    return why


@pytest.mark.parametrize(
    ("price", "time", "why"),
    [
        (f"charge: {UNIT}", "2026-01-09T22:59:59", "no_contract"),
        (f"charge: {UNIT}", "2026-01-09T23:00:00", None),
        (f'hours: ["00:00-06:00"], charge: {UNIT}', "2026-02-01T04:59:59", None),
        (f'hours: ["00:00-06:00"], charge: {UNIT}', "2026-02-01T05:00:00", "no_price"),
        (f'hours: ["00:00-06:00"], charge: {UNIT}', "2026-07-01T04:00:00", "no_price"),
        (f'hours: ["22:00-06:00"], charge: {UNIT}', "2026-07-01T20:00:00", None),
        (f"from_period: 2, charge: {UNIT}", "2026-02-09T22:59:59", "no_price"),
        (f"from_period: 2, charge: {UNIT}", "2026-02-09T23:00:00", None),
        (f"to_period: 2, charge: {UNIT}", "2026-03-09T22:59:59", None),
        (f"to_period: 2, charge: {UNIT}", "2026-03-09T23:00:00", "no_price"),
        (
            f"invoicing: {{timing: arrears, every_months: 1, after_months: 1}}, charge: {UNIT}",
            "2026-02-09T22:59:59",
            "no_price",
        ),
        (
            f"invoicing: {{timing: once, after_months: 1}}, to_period: 1, charge: {UNIT}",
            "2026-02-09T23:00:00",
            None,
        ),
    ],
)
def test_a_price_takes_what_is_in_its_hours_its_ramp_and_its_periods(price, time, why):
    """On the contract's own clock; what no price takes is listed, not lost."""
    assert reason(matcher(price), time) == why


def test_hours_of_one_price_do_not_close_another():
    """The rest of the day has a price of its own."""
    rest = f'prices: [{{product: p, hours: ["06:00-24:00"], charge: {UNIT}}}]'
    found = matcher(
        f'hours: ["00:00-06:00"], charge: {UNIT}',
        contract=f"amendments: [{{effective_from: 2026-03-01, {rest}}}]",
    )
    assert reason(found, "2026-02-01T12:00:00") == "no_price"
    assert reason(found, "2026-04-01T12:00:00") is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ('{"n":1,"cost":2}', None),
        ('{"n":1,"cost":0}', None),
        ('{"n":1}', "missing_value"),
        ('{"n":1,"cost":null}', "missing_value"),
        ('{"cost":2}', "missing_value"),
    ],
)
def test_an_event_that_names_no_amount_misses_a_value(data, why):
    """A dynamic price asks for it: such an event costs nothing, so it is listed."""
    assert reason(matcher(f"charge: {DYNAMIC}"), "2026-02-01T12:00:00", data) == why


def test_a_level_counts_in_the_lines_that_come_after_it():
    """What was stored before the contract is still there; what comes after it is not counted."""
    found = matcher(f"charge: {UNIT}", aggregation="weighted_sum")
    assert reason(found, "2025-06-01T12:00:00") is None
    assert reason(found, "2026-12-09T22:59:59") is None
    assert reason(found, "2026-12-09T23:00:00") == "no_contract"
