"""Rating end to end on worked examples: the lines finance would check by hand."""

from __future__ import annotations

from catalog.periods import PeriodSpec
from rating.frames import BILLING, LINES
from rating.pipeline import rate
from tests.unit.rating.builders import LATER, Usage, amounts, catalog_of

OPTIMUS = """
meters:
  updates: {event_type: update, aggregation: sum, value: data.n}
  creates: {event_type: create, aggregation: sum, value: data.n}
products:
  "1": {name: Updates, meter: updates}
  "2": {name: Creates, meter: creates}
  "3": {name: Extras, meter: updates}
  "4": {name: Enterprise platform fee}
pricebooks:
  b:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: "1", charge: {model: per_unit, unit_price: "0.05"}}
      - {product: "2", charge: {model: per_unit, unit_price: "0.04"}}
      - product: "4"
        charge: {model: flat, amount: "5000.00"}
        invoicing: {timing: advance, every_months: 12}
customers:
  OptimusPrimeBot: {name: Optimus, subjects: [prime]}
contracts:
  list: {customer: OptimusPrimeBot, pricebook: b, start: 2023-11-01, end: 2024-11-01}
  oneoff:
    customer: OptimusPrimeBot
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    start: 2023-11-01
    end: 2024-11-01
    prices:
      - {product: "2", charge: {model: per_unit, unit_price: "1.00"}}
      - {product: "4", charge: {model: flat, amount: "5300.00"}}
  override:
    customer: OptimusPrimeBot
    pricebook: b
    start: 2023-11-01
    end: 2024-11-01
    prices:
      - {product: "1", charge: {model: per_unit, unit_price: "0.03"}}
      - {product: "2", multiply: "0.5"}
      - {product: "3", charge: {model: per_unit, unit_price: "2.00"}}
      - {product: "4", remove: true}
"""


def rated(catalog, usage, period, contracts=None):
    """The lines of one period."""
    spec = PeriodSpec.parse(period)
    return rate(catalog, period=spec, source=usage.source(), as_of=LATER, contracts=contracts).lines


def optimus():
    """The field's own worked example: its catalog and its November."""
    catalog = catalog_of(OPTIMUS)
    usage = Usage(catalog)
    usage.add("updates", "prime", "2023-11-05T10:00:00", 8617)
    usage.add("creates", "prime", "2023-11-06T10:00:00", 2552920)
    return catalog, usage


def test_the_worked_example_comes_out_to_the_cent():
    """Three lines: 430.85 and 102116.80 for usage, 5000.00 for the year in advance."""
    lines = rated(*optimus(), "2023-11", contracts=["list"])
    assert amounts(lines, "product", "quantity", "amount", "kind", "timing", "event_count") == [
        ("1", "8617", "430.85", "usage", "arrears", 1),
        ("2", "2552920", "102116.8", "usage", "arrears", 1),
        ("4", "1", "5000", "fixed", "advance", 0),
    ]
    assert lines.schema == LINES


def test_a_contract_without_a_pricebook_bills_its_own_prices():
    """The one-off contract: 2552920.00 and a fee of 5300.00, nothing else."""
    lines = rated(*optimus(), "2023-11", contracts=["oneoff"])
    assert amounts(lines) == [("2", "2552920"), ("4", "5300")]


def test_overrides_replace_scale_add_and_remove():
    """Override contract: own price of 1, half the list price of 2, product 3 added, fee gone."""
    lines = rated(*optimus(), "2023-11", contracts=["override"])
    assert amounts(lines) == [("1", "258.51"), ("2", "51058.4"), ("3", "17234")]


def test_a_fee_in_advance_is_due_once_a_year():
    """The 12-month fee counts in its first month, whole, and in no other of the term."""
    catalog, usage = optimus()
    due = {
        month: amounts(rated(catalog, usage, month, contracts=["list"]))
        for month in ("2023-12", "2024-10", "2024-11")
    }
    assert due == {"2023-12": [], "2024-10": [], "2024-11": []}
    year = rated(catalog, usage, "2023", contracts=["list"])
    assert ("4", "5000") in amounts(year)


def test_contracts_are_independent():
    """Without narrowing, every contract of the customer prices the same usage, in order."""
    lines = rated(*optimus(), "2023-11")
    assert lines["contract"].unique(maintain_order=True).to_list() == ["list", "oneoff", "override"]
    assert lines.height == 8


def test_billing_rows_stand_beside_the_lines():
    """BILLING has the same ids in the same order, with the day each line counts on."""
    catalog, usage = optimus()
    spec = PeriodSpec.parse("2023-11")
    result = rate(catalog, period=spec, source=usage.source(), as_of=LATER)
    assert result.billing.schema == BILLING
    assert result.billing["line_id"].to_list() == result.lines["line_id"].to_list()
    assert {str(day) for day in result.billing["accounting_date"]} == {"2023-11-01", "2023-11-30"}
