"""Contracts as a whole by example: one term at a time, figures that fit on a napkin."""

from __future__ import annotations

import json

import pytest

from catalog.periods import PeriodSpec
from rating.pipeline import rate
from rating.timeline import InconsistentCatalog
from tests.unit.rating.builders import LATER, Usage, amounts, at, catalog_of

FEE = {
    "product": "fee",
    "charge": {"model": "flat", "amount": "31"},
    "invoicing": {"timing": "advance", "every_months": "1"},
}


def business(*, prices=(), timing="arrears", **terms):
    """One API at 1 USD a unit, billed monthly, more ``prices``, and a contract with ``terms``."""
    api = {"product": "api", "charge": {"model": "per_unit", "unit_price": "1"}}
    if timing != "arrears":
        api["invoicing"] = {"timing": "arrears", "every_months": "1"}
    contract = {"customer": "c", "pricebook": "b", "start": "2026-01-01", **terms}
    return catalog_of(f"""
    meters: {{api: {{event_type: t, aggregation: sum, value: data.n}}}}
    products: {{api: {{name: API, meter: api}}, fee: {{name: Fee}}}}
    pricebooks:
      b:
        currency: USD
        invoicing: {{timing: {timing}, every_months: 1}}
        prices: {json.dumps([api, *prices])}
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts: {{k: {json.dumps(contract)}}}
    """)


def billed(catalog, period, *used, as_of=LATER):
    """(product, kind, amount) of a period's lines after (date, units) were used."""
    usage = Usage(catalog)
    for day, units in used:
        usage.add("api", "s", f"{day}T12:00:00", units)
    spec = PeriodSpec.parse(period)
    return amounts(
        rate(catalog, period=spec, source=usage.source(), as_of=as_of).lines,
        "product",
        "kind",
        "amount",
    )


def test_discounts_act_one_after_the_other_and_are_rounded_once():
    """33.33 less 10 %, then 5 off what is left; a discount on one product is its line's."""
    terms = [{"percent": "10", "products": ["api"]}, {"amount": "5"}]
    catalog = business(discounts=terms)
    assert billed(catalog, "2026-01", ("2026-01-05", "33.33")) == [
        (None, "discount", "-5"),
        ("api", "discount", "-3.33"),
        ("api", "usage", "33.33"),
    ]


def test_an_amount_off_is_off_each_billing_period_once():
    """A fee in advance and usage in arrears share it; what is not used up is not carried."""
    catalog = business(prices=[FEE], discounts=[{"amount": "40"}])
    used = [("2026-01-05", "20"), ("2026-02-05", "4")]
    months = [billed(catalog, f"2026-0{month}", *used) for month in (1, 2)]
    found = [sorted(amount for _, kind, amount in rows if kind == "discount") for rows in months]
    assert found == [["-31", "-9"], ["-31", "-4"]]


def test_a_discount_holds_for_what_falls_due_while_it_does():
    """From February to March: January's usage, due in January, is not discounted."""
    catalog = business(discounts=[{"percent": "50", "from": "2026-02-01", "until": "2026-03-01"}])
    used = [(f"2026-0{month}-05", "10") for month in (1, 2, 3)]
    found = [billed(catalog, f"2026-0{month}", *used) for month in (1, 2, 3)]
    assert [sum(float(row[2]) for row in rows) for rows in found] == [10, 5, 10]


def test_an_amendment_replaces_the_discounts():
    """What falls due before it keeps the old one, its own month has the new one."""
    amended = {"effective_from": "2026-02-10", "discounts": [{"percent": "20"}]}
    catalog = business(discounts=[{"percent": "10"}], amendments=[amended])
    used = [("2026-01-05", "100"), ("2026-02-05", "100")]
    assert billed(catalog, "2026-01", *used)[0] == (None, "discount", "-10")
    assert billed(catalog, "2026-02", *used)[0] == (None, "discount", "-20")


def test_a_minimum_bills_what_a_window_is_short_with_its_last_month():
    """100 a quarter, 70 used: 30 more in March; discounts lower what counts."""
    catalog = business(minimum={"amount": "100", "every_months": "3"})
    used = [("2026-01-05", "50"), ("2026-03-05", "20")]
    assert billed(catalog, "2026-01", *used) == [("api", "usage", "50")]
    assert billed(catalog, "2026-03", *used) == [(None, "minimum", "30"), ("api", "usage", "20")]
    discounted = business(
        minimum={"amount": "100", "every_months": "3"}, discounts=[{"percent": "10"}]
    )
    assert (None, "minimum", "37") in billed(discounted, "2026-03", *used)


@pytest.mark.parametrize(("prorate", "short"), [("false", "100"), ("days", "50")])
def test_a_window_that_the_contract_cuts_is_due_whole_unless_prorated(prorate, short):
    """The contract ends after half of June: 15 of 30 days."""
    catalog = business(
        start="2026-06-01",
        end="2026-06-16",
        prorate=prorate,
        minimum={"amount": "100", "every_months": "1"},
    )
    assert billed(catalog, "2026-06") == [(None, "minimum", short)]


def test_a_commitment_is_trued_up_at_the_end_of_its_window():
    """1000 a year, 300 used: 700 in December, once, whatever was asked for in between."""
    catalog = business(commitments=[{"amount": "1000", "every_months": "12"}])
    used = [("2026-02-05", "300")]
    assert billed(catalog, "2026-11", *used) == []
    assert billed(catalog, "2026-12", *used) == [(None, "commitment", "700")]


def test_spend_beyond_a_commitment_costs_the_overage_rate():
    """1000 committed: of 600 and 600, 200 are beyond, at half as much again."""
    commitment = {"amount": "1000", "every_months": "12", "overage_multiplier": "1.5"}
    catalog = business(commitments=[commitment | {"true_up": "false"}])
    used = [("2026-02-05", "600"), ("2026-03-05", "600")]
    assert billed(catalog, "2026-02", *used) == [("api", "usage", "600")]
    assert billed(catalog, "2026-03", *used) == [
        (None, "commitment", "100"),
        ("api", "usage", "600"),
    ]
    assert billed(catalog, "2026-12", *used) == []


def test_a_commitment_over_the_term_falls_due_where_the_contract_ends():
    """And never, where it does not."""
    used = [("2026-02-05", "600")]
    promised = [{"amount": "1000"}]
    ends = business(end="2027-01-01", commitments=promised)
    assert billed(ends, "2026-12", *used) == [(None, "commitment", "400")]
    open_ = business(commitments=promised)
    assert billed(open_, "2026", *used) == [("api", "usage", "600")]


def test_an_amended_commitment_holds_for_the_whole_window_it_ends():
    """From 1000 to 2000 in July: the year's window is due at 2000."""
    amended = {"effective_from": "2026-07-01", "commitments": [{"amount": "2000", **YEARLY}]}
    catalog = business(commitments=[{"amount": "1000", **YEARLY}], amendments=[amended])
    assert billed(catalog, "2026-12", ("2026-02-05", "300")) == [(None, "commitment", "1700")]


YEARLY = {"every_months": "12"}


CREDITS = [
    {"id": "young", "amount": "1", "effective_at": "2026-01-20"},
    {"id": "old", "amount": "2", "effective_at": "2026-01-10"},
    {"id": "soon", "amount": "4", "expires_at": "2026-06-01"},
    {"id": "first", "amount": "8", "priority": "-1"},
]


@pytest.mark.parametrize(
    ("used", "burned"),
    [
        ("7", ["-7"]),
        ("9", ["-8", "-1"]),
        ("12.5", ["-8", "-4", "-0.5"]),
        ("14.1", ["-8", "-4", "-2", "-0.1"]),
        ("99", ["-8", "-4", "-2", "-1"]),
    ],
)
def test_credits_burn_by_priority_then_expiry_then_age(used, burned):
    """The low priority number, then what expires, then the older, then the rest."""
    rows = billed(business(credits=CREDITS), "2026-01", ("2026-01-25", used))
    assert sorted((a for _, kind, a in rows if kind == "credit"), key=float) == burned


def test_a_credit_is_carried_until_it_is_used_up_and_never_pays_below_zero():
    """100 paid before: 70 in January, 30 in February, nothing in March."""
    catalog = business(credits=[{"id": "prepaid", "amount": "100"}])
    used = [("2026-01-05", "70"), ("2026-02-05", "70"), ("2026-03-05", "70")]
    found = [dict(row[1:] for row in billed(catalog, f"2026-0{m}", *used)) for m in (1, 2, 3)]
    assert [rows.get("credit") for rows in found] == ["-70", "-30", None]


@pytest.mark.parametrize(
    ("credit", "paid"),
    [
        ({"expires_at": "2026-01-20"}, None),
        ({"expires_at": "2026-02-01"}, "-20"),
        ({"effective_at": "2026-01-20"}, "-20"),
        ({"effective_at": "2026-02-01"}, None),
    ],
)
def test_a_credit_pays_what_falls_due_while_it_is_in_force(credit, paid):
    """Usage in arrears falls due in the last instant of its month."""
    catalog = business(credits=[{"id": "c", "amount": "50"} | credit])
    rows = billed(catalog, "2026-01", ("2026-01-05", "20"))
    assert {kind: amount for _, kind, amount in rows}.get("credit") == paid


def test_a_credit_on_a_product_pays_for_that_alone():
    """The fee stays; an expired credit pays nothing."""
    catalog = business(
        prices=[FEE],
        credits=[
            {"id": "api", "amount": "100", "products": ["api"]},
            {"id": "gone", "amount": "100", "expires_at": "2026-01-01"},
        ],
    )
    assert billed(catalog, "2026-01", ("2026-01-05", "20")) == [
        ("api", "credit", "-20"),
        ("api", "usage", "20"),
        ("fee", "fixed", "31"),
    ]


def test_usage_in_the_trial_is_taken_off_and_a_fee_for_its_days():
    """14 of January's 31 days: the fee of 31 less 14, and usage before the 15th is free."""
    catalog = business(prices=[FEE], trial={"days": "14"})
    assert billed(catalog, "2026-01", ("2026-01-05", "20"), ("2026-01-15", "5")) == [
        (None, "discount", "-14"),
        (None, "discount", "-20"),
        ("api", "usage", "20"),
        ("fee", "fixed", "31"),
        ("api", "usage", "5"),
    ]
    assert billed(catalog, "2026-02") == [("fee", "fixed", "31")]


def test_a_minimum_does_not_bill_the_trial():
    """62 a month, 14 of 31 days free: 34 are due."""
    catalog = business(trial={"days": "14"}, minimum={"amount": "62", "every_months": "1"})
    assert billed(catalog, "2026-01", ("2026-01-05", "20")) == [
        (None, "discount", "-20"),
        (None, "minimum", "34"),
        ("api", "usage", "20"),
    ]


def test_a_shortfall_is_its_own_document_where_the_contract_bills_in_advance():
    """There is no period in arrears to bill it with: the window is the period."""
    catalog = business(timing="advance", minimum={"amount": "100", "every_months": "3"})
    spec = PeriodSpec.parse("2026-03")
    rated = rate(catalog, period=spec, source=Usage(catalog).source(), as_of=LATER)
    (row,) = rated.billing.rows(named=True)
    assert (row["billing_start"], row["billing_end"]) == (
        rated.lines["period_start"][0],
        rated.lines["period_end"][0],
    )
    assert f"{row['billing_start']:%Y-%m-%d} {row['accounting_date']}" == "2026-01-01 2026-03-31"


def test_a_shortfall_is_listed_once_its_billing_period_has_begun():
    """As every open line is: with what was used up to then."""
    catalog = business(minimum={"amount": "100", "every_months": "1"})
    used = [("2026-01-05", "30")]
    early = billed(catalog, "2026-01", *used, as_of=at("2026-01-10"))
    assert (None, "minimum", "70") in early
    assert billed(catalog, "2026-02", *used, as_of=at("2026-01-10")) == []


def test_a_contract_whose_pricebooks_differ_in_currency_is_not_rated():
    """Its terms have one currency; a sum of two would be a wrong bill."""
    catalog = catalog_of("""
    products: {fee: {name: Fee}}
    pricebooks:
      b: {currency: USD, invoicing: {timing: arrears, every_months: 1}, prices: []}
      e: {currency: EUR, invoicing: {timing: arrears, every_months: 1}, prices: []}
    customers: {c: {name: C, subjects: []}}
    contracts:
      k:
        customer: c
        pricebook: b
        start: 2026-01-01
        discounts: [{percent: 10}]
        amendments: [{effective_from: 2026-03-01, pricebook: e}]
    """)
    with pytest.raises(InconsistentCatalog, match="mixes currencies"):
        rate(
            catalog,
            period=PeriodSpec.parse("2026-01"),
            source=Usage(catalog).source(),
            as_of=LATER,
        )
