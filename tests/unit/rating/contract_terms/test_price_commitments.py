"""The commitment of one price: what it costs at least, and at which rate beyond."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalog.errors import OutOfRange
from catalog.periods import PeriodSpec
from rating.explain import explain
from rating.lines import named_in
from rating.pipeline import rate
from tests.oracle import charged, rounded
from tests.unit.rating.builders import LATER, Usage, catalog_of
from tests.unit.rating.businesses import charges, decimals, maybe


def business(charge, **price):
    """One price with ``charge``."""
    body = json.dumps({"product": "p", "charge": charge, **price})
    return catalog_of(f"""
    meters: {{m: {{event_type: t, aggregation: sum, value: data.n}}}}
    products: {{p: {{name: P, meter: m}}}}
    pricebooks:
      b: {{currency: USD, invoicing: {{timing: arrears, every_months: 1}}, prices: [{body}]}}
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts: {{k: {{customer: c, pricebook: b, start: 2026-01-01}}}}
    """)


def billed(catalog, *used):
    """What January costs after (hour of the 5th, units) were used."""
    usage = Usage(catalog)
    for hour, units in used:
        usage.add("m", "s", f"2026-01-05T{hour:02d}:10:00", units)
    lines = rate(
        catalog, period=PeriodSpec.parse("2026-01"), source=usage.source(), as_of=LATER, zeros=True
    ).lines
    return lines, usage


TWO = {"model": "per_unit", "unit_price": "2"}


@pytest.mark.parametrize(
    ("commitment", "used", "amount"),
    [
        ({"quantity": "500", "overage_multiplier": "1.5", "true_up": "false"}, "300", "600"),
        ({"quantity": "500", "overage_multiplier": "1.5"}, "300", "1000"),
        ({"quantity": "500", "overage_multiplier": "1.5"}, "700", "1600"),
        ({"amount": "1000", "overage_multiplier": "1.5"}, "700", "1600"),
        ({"amount": "1000"}, "700", "1400"),
        ({"amount": "1000", "overage_multiplier": "0.5"}, "700", "1200"),
    ],
)
def test_a_quantity_promises_what_so_many_units_cost(commitment, used, amount):
    """Beyond it each unit costs the overage rate, below it the promise is due (a true-up)."""
    lines, _ = billed(business(TWO, commitment=commitment), (1, used))
    assert lines["amount"][0] == int(amount)


@pytest.mark.parametrize(
    ("amount", "rate_", "used", "bills"),
    [("10", "2", [2, 2], 20), ("20", "1.5", [15, 6, 10], 75)],
)
def test_a_bucketed_price_promises_for_each_window_that_was_used(amount, rate_, used, bills):
    """Hour by hour, as two peers bill windowed commitments."""
    commitment = {"amount": amount, "overage_multiplier": rate_}
    lines, _ = billed(business(TWO, commitment=commitment, bucket="1h"), *enumerate(used))
    assert lines["amount"][0] == bills


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    charge=charges(),
    kind=st.sampled_from(["quantity", "amount"]),
    promised=decimals(1, 30, 2),
    more=maybe(overage_multiplier=st.sampled_from(["1.5", "0"]), true_up=st.booleans()),
    used=decimals(0, 60, 3),
    percent=decimals(0, 90, 1),
)
def test_any_charge_with_a_commitment_is_the_formula(charge, kind, promised, more, used, percent):
    """Cost up to the promise, then at the rate; the percent discount comes after."""
    for tier in charge.get("tiers", []):
        tier.pop("up_to", None) if tier is charge["tiers"][-1] else None
    catalog = business(charge, commitment={kind: promised} | more, discount_percent=percent)
    stated = catalog.pricebooks["b"].last.prices[0]
    if type(stated.charge).__name__ not in ("PerUnit", "Package", "Graduated", "Volume"):
        return
    cost = charged(stated.charge, Fraction(used))
    least = Fraction(promised)
    if kind == "quantity":
        least = charged(stated.charge, least)
    rate_ = Fraction(more.get("overage_multiplier", "1"))
    if cost > least:
        cost = least + (cost - least) * rate_
    elif more.get("true_up", True):
        cost = least
    cost_left = cost * (1 - Fraction(percent) / 100)
    if abs(cost_left) >= 10**17:
        with pytest.raises(OutOfRange):
            billed(catalog, (1, used))
        return
    lines, usage = billed(catalog, (1, used))
    assert lines["amount"][0] == rounded(cost_left, 2)
    contract, day = named_in(lines["line_id"][0])
    told = explain(
        catalog,
        line_id=lines["line_id"][0],
        period=day,
        contract=contract,
        source=usage.source(),
        as_of=LATER,
    )
    (step,) = [step for step in told.steps if step.step == "commitment"]
    assert (Fraction(step.stated), Fraction(step.after)) == (least, cost)
    assert told.price["true_up"] == str(more.get("true_up", True)).lower()
