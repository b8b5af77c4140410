"""Which lines there are: splits, prorating, overrides as they take effect, pins, amendments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from catalog.clock import Micros
from catalog.periods import PeriodSpec
from catalog.pricebooks import Invoicing, Timing
from catalog.snapshot import Catalog, Chain, Version
from rating.pipeline import rate
from rating.plan import Accounted, UsageInAdvance, plan_lines, specs_needed
from tests.unit.rating.builders import LATER, Usage, amounts, at, catalog_of

BASE = """
meters: {m: {event_type: t, aggregation: sum, value: data.n}}
products: {p: {name: P, meter: m}, fee: {name: Fee}}
customers: {c: {name: C, subjects: [s]}}
"""


def business(contract: str, *, prices: str = "[]", book: str = "") -> Catalog:
    """One customer, one monthly pricebook in USD, one contract."""
    return catalog_of(f"""{BASE}
pricebooks:
  b: {{currency: USD, invoicing: {{timing: arrears, every_months: 1}}, prices: {prices} {book}}}
contracts: {{k: {{customer: c, pricebook: b, {contract}}}}}
""")


def used(catalog: Catalog, *events: tuple[str, int]) -> Usage:
    """A unit or more on each day."""
    usage = Usage(catalog)
    for day, value in events:
        usage.add("m", "s", f"{day}T12:00:00", value)
    return usage


def lines(catalog: Catalog, period: str, usage: Usage | None = None, *, as_of: Micros = LATER):
    """(product, from, to, quantity, amount) of every line of the period."""
    source = (usage or Usage(catalog)).source()
    found = rate(catalog, period=PeriodSpec.parse(period), source=source, as_of=as_of).lines
    rows = amounts(found, "product", "period_start", "period_end", "quantity", "amount")
    return [(p, f"{a:%m-%d}", f"{b:%m-%d}", q, x) for p, a, b, q, x in rows]


PER_UNIT = "charge: {model: per_unit, unit_price: '%s'}"


def test_a_period_is_split_where_a_list_price_changes():
    """Each part is priced as a period of its own; one line each, tiers from zero."""
    tiers = (
        "charge: {model: graduated, tiers: [{up_to: '10', unit_price: '%s'}, {unit_price: '0'}]}"
    )
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{{product: p, {tiers % 1}}},"
        f" {{product: p, {tiers % 2}, effective_from: 2026-01-16}}]",
    )
    usage = used(catalog, ("2026-01-02", 12), ("2026-01-20", 12))
    assert lines(catalog, "2026-01", usage) == [
        ("p", "01-01", "01-16", "12", "10"),
        ("p", "01-16", "02-01", "12", "20"),
    ]


def test_a_change_that_changes_nothing_splits_nothing():
    """The same price stated again under a date, and 1.50 for 1.5, are one line."""
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{{product: p, {PER_UNIT % '1.5'}}},"
        f" {{product: p, {PER_UNIT % '1.50'}, effective_from: 2026-01-16}}]",
    )
    usage = used(catalog, ("2026-01-02", 12), ("2026-01-20", 12))
    assert lines(catalog, "2026-01", usage) == [("p", "01-01", "02-01", "24", "36")]


def test_parts_share_included_units_minimum_and_maximum_by_seconds():
    """31 days, split after 15: 15/31 and 16/31 of the 31 included units and of the maximum."""
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{{product: p, {PER_UNIT % '1'}, included: '31', maximum: '62'}},"
        f" {{product: p, {PER_UNIT % '2'}, included: '31', minimum: '31',"
        " effective_from: 2026-01-16}]",
    )
    usage = used(catalog, ("2026-01-02", 100), ("2026-01-20", 17))
    assert lines(catalog, "2026-01", usage) == [
        ("p", "01-01", "01-16", "100", "30"),
        ("p", "01-16", "02-01", "17", "16"),
    ]


def test_parts_of_a_period_cut_by_the_contract_share_the_cut_period():
    """From 21 January, split on the 26th: 5 of its 11 days and 6; of the month if prorated."""
    prices = (
        f"[{{product: p, {PER_UNIT % '1'}, included: '341'}},"
        f" {{product: p, {PER_UNIT % '2'}, included: '341', effective_from: 2026-01-26}}]"
    )
    calendar = "{timing: arrears, every_months: 1, anchor: calendar}"
    for prorate, amounts_due in (("", ["845", "1628"]), (", prorate: seconds", ["945", "1868"])):
        catalog = business(f"start: 2026-01-21, invoicing: {calendar} {prorate}", prices=prices)
        usage = used(catalog, ("2026-01-22", 1000), ("2026-01-27", 1000))
        assert [line[-1] for line in lines(catalog, "2026-01", usage)] == amounts_due


FEE = "{product: fee, charge: {model: flat, amount: '%s'}, %s}"


@pytest.mark.parametrize(
    ("timing", "due"),
    [
        ("arrears", [("fee", "01-01", "02-01", "1", "310")]),
        ("advance", [("fee", "01-01", "02-01", "1", "31")]),
    ],
)
def test_a_fee_not_prorated_is_due_once_a_period(timing, due):
    """In arrears under the terms at the period's end, in advance under those at its start."""
    invoicing = f"invoicing: {{timing: {timing}, every_months: 1}}"
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{FEE % (31, invoicing)},"
        f" {FEE % (310, invoicing + ', effective_from: 2026-01-16')}]",
    )
    assert lines(catalog, "2026-01") == due


def test_a_prorated_fee_is_due_by_days_in_force():
    """15 of 31 days at 31 and 16 of 31 at 310, in advance too."""
    terms = "prorate: days, invoicing: {timing: advance, every_months: 1}"
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{FEE % (31, terms)}, {FEE % (310, terms + ', effective_from: 2026-01-16')}]",
    )
    assert lines(catalog, "2026-01") == [
        ("fee", "01-01", "01-16", "1", "15"),
        ("fee", "01-16", "02-01", "1", "160"),
    ]


@pytest.mark.parametrize(
    ("amount", "start", "expected"),
    [("24.95", "2026-01-23", "7.24"), ("24.95", "2026-01-24", "6.44"), ("30", "2026-01-01", "30")],
)
def test_a_stub_is_prorated_over_the_whole_calendar_month(amount, start, expected):
    """9 of 31 days of 24.95 are 7.24, 8 of 31 are 6.44 (a peer's documented examples)."""
    terms = "prorate: days, invoicing: {timing: arrears, every_months: 1, anchor: calendar}"
    catalog = business(f"start: {start}", prices=f"[{FEE % (amount, terms)}]")
    assert [line[-1] for line in lines(catalog, "2026-01")] == [expected]


def test_seconds_prorate_where_the_clock_changes():
    """March 2026 in Berlin has 743 hours; a contract from the 29th 12:00 has 59 of them."""
    terms = "prorate: seconds, invoicing: {timing: arrears, every_months: 1, anchor: calendar}"
    catalog = business(
        "start: '2026-03-29T10:00:00Z', timezone: Europe/Berlin", prices=f"[{FEE % (743, terms)}]"
    )
    assert [line[-1] for line in lines(catalog, "2026-03")] == ["60"]


def test_contract_dates_are_local_midnights():
    """An event at 23:30 in New York on 31 January is January's, though UTC says February."""
    catalog = business(
        "start: 2026-01-01, timezone: America/New_York",
        prices=f"[{{product: p, {PER_UNIT % '1'}}}]",
    )
    usage = Usage(catalog).add("m", "s", "2026-02-01T04:30:00", 3)
    assert [line[-1] for line in lines(catalog, "2026-01", usage)] == ["3"]
    assert lines(catalog, "2026-02", usage) == []


def test_a_pinned_contract_keeps_the_prices_at_its_start():
    """A later list price is not followed; an unpinned contract beside it follows."""
    prices = (
        f"[{{product: p, {PER_UNIT % '1'}}},"
        f" {{product: p, {PER_UNIT % '5'}, effective_from: 2026-02-01}}]"
    )
    for pin, expected in (("true", "7"), ("false", "35")):
        catalog = business(f"start: 2026-01-01, pin: {pin}", prices=prices)
        usage = used(catalog, ("2026-02-10", 7))
        assert [line[-1] for line in lines(catalog, "2026-02", usage)] == [expected]


def test_an_override_in_force_for_a_while_gives_way_to_the_list_again():
    """From the 10th to the 20th the contract's price, before and after the list's."""
    override = f"{{product: p, {PER_UNIT % '3'}, effective_from: 2026-01-10,"
    catalog = business(
        f"start: 2026-01-01, prices: [{override} effective_until: 2026-01-20}}]",
        prices=f"[{{product: p, {PER_UNIT % '1'}}}]",
    )
    usage = used(catalog, ("2026-01-05", 1), ("2026-01-15", 1), ("2026-01-25", 1))
    assert lines(catalog, "2026-01", usage) == [
        ("p", "01-01", "01-10", "1", "1"),
        ("p", "01-10", "01-20", "1", "3"),
        ("p", "01-20", "02-01", "1", "1"),
    ]


def test_an_override_names_one_of_a_products_prices():
    """`overrides` replaces that price only; `additional` stands beside them all."""
    catalog = business(
        "start: 2026-01-01, prices: ["
        f"{{product: p, overrides: x, {PER_UNIT % '10'}}},"
        f"{{product: p, additional: true, {PER_UNIT % '100'}}}]",
        prices=f"[{{product: p, id: x, {PER_UNIT % '1'}}},"
        f" {{product: p, id: y, {PER_UNIT % '2'}}}]",
    )
    found = lines(catalog, "2026-01", used(catalog, ("2026-01-02", 1)))
    assert sorted(line[-1] for line in found) == ["10", "100", "2"]


def test_an_amendment_replaces_what_it_names_from_its_day_on():
    """New prices from the 11th split the month; its end ends the contract, and cuts the last."""
    catalog = business(
        "start: 2026-01-01, amendments: ["
        f"{{effective_from: 2026-01-11, prices: [{{product: p, {PER_UNIT % '2'}}}],"
        " end: 2026-02-15}]",
        prices=f"[{{product: p, {PER_UNIT % '1'}}}]",
    )
    usage = used(
        catalog, ("2026-01-05", 1), ("2026-01-15", 1), ("2026-02-10", 1), ("2026-02-20", 1)
    )
    assert lines(catalog, "2026-01", usage) == [
        ("p", "01-01", "01-11", "1", "1"),
        ("p", "01-11", "02-01", "1", "2"),
    ]
    assert lines(catalog, "2026-02", usage) == [("p", "02-01", "02-15", "1", "2")]
    assert lines(catalog, "2026-03", usage) == []


def test_an_amendment_may_change_the_pricebook():
    """From its day on the other list is followed."""
    catalog = catalog_of(f"""{BASE}
pricebooks:
  b:
    currency: USD
    invoicing: {{timing: arrears, every_months: 1}}
    prices: [{{product: p, {PER_UNIT % "1"}}}]
  d:
    currency: USD
    invoicing: {{timing: arrears, every_months: 1}}
    prices: [{{product: p, {PER_UNIT % "4"}}}]
contracts:
  k:
    customer: c
    pricebook: b
    start: 2026-01-01
    amendments: [{{effective_from: 2026-01-11, pricebook: d}}]
""")
    usage = used(catalog, ("2026-01-05", 1), ("2026-01-15", 1))
    assert [line[-1] for line in lines(catalog, "2026-01", usage)] == ["1", "4"]


def test_a_ramp_by_periods():
    """Periods 1 and 2 at one price, from 3 on at another."""
    catalog = business(
        "start: 2026-01-01",
        prices=f"[{{product: p, {PER_UNIT % '1'}, to_period: 2}},"
        f" {{product: p, {PER_UNIT % '2'}, from_period: 3}}]",
    )
    usage = used(catalog, *((f"2026-0{month}-10", 1) for month in range(1, 5)))
    assert [line[-1] for line in lines(catalog, "2026", usage)] == ["1", "1", "2", "2"]


def test_billing_periods_that_have_begun_are_listed():
    """A fee in arrears shows from the first day of its period; the next one's not yet."""
    catalog = business("start: 2026-01-01", prices=f"[{FEE % (9, 'quantity: 1')}]")
    assert lines(catalog, "2026-02", as_of=Micros(at("2026-02-01") - 1)) == []
    assert len(lines(catalog, "2026-02", as_of=at("2026-02-01"))) == 1
    assert len(lines(catalog, "2026", as_of=at("2026-02-01"))) == 2


def test_usage_that_crosses_months_counts_on_the_last_day():
    """15 October to 15 November in arrears is November's."""
    catalog = business("start: 2026-10-15", prices=f"[{{product: p, {PER_UNIT % '1'}}}]")
    usage = used(catalog, ("2026-10-20", 1), ("2026-11-10", 1))
    assert lines(catalog, "2026-10", usage) == []
    assert lines(catalog, "2026-11", usage) == [("p", "10-15", "11-15", "2", "2")]


def test_usage_priced_once_counts_when_the_contract_ends():
    """One line over the whole term, on its last day."""
    once = "invoicing: {timing: once}"
    catalog = business(
        "start: 2026-01-10, end: 2026-03-10",
        prices=f"[{{product: p, {PER_UNIT % '1'}, {once}}}, {FEE % (7, once)}]",
    )
    usage = used(catalog, ("2026-01-20", 1), ("2026-03-01", 1))
    assert lines(catalog, "2026-01", usage) == [("fee", "01-10", "03-10", "1", "7")]
    assert lines(catalog, "2026-03", usage) == [("p", "01-10", "03-10", "2", "2")]


def test_a_retired_contract_ends_when_it_was_retired():
    """The version's end is the contract's; what comes after is in no line."""
    catalog = business("start: 2026-01-01", prices=f"[{{product: p, {PER_UNIT % '1'}}}]")
    chain = catalog.contracts["k"]
    ended = Version(
        value=chain.last,
        effective_from=None,
        effective_until=date(2026, 1, 11),
        recorded_at=Micros(0),
        revision=2,
    )
    retired = replace(catalog, contracts={"k": Chain(versions=(ended,))})
    usage = used(catalog, ("2026-01-05", 1), ("2026-01-15", 1))
    assert lines(retired, "2026-01", usage) == [("p", "01-01", "01-11", "1", "1")]


def test_versions_of_a_pricebook_are_followed_and_named():
    """A second version from the 16th splits the month; each part has its own price_version."""
    catalog = catalog_of(f"""{BASE}
pricebooks:
  b:
    versions:
      - currency: USD
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, {PER_UNIT % "1"}}}]
        effective_until: 2026-01-16
      - currency: USD
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, {PER_UNIT % "3"}}}]
        effective_from: 2026-01-16
contracts: {{k: {{customer: c, pricebook: b, start: 2026-01-01}}}}
""")
    usage = used(catalog, ("2026-01-05", 1), ("2026-01-20", 1))
    spec = PeriodSpec.parse("2026-01")
    found = rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines
    assert amounts(found, "amount") == [("1",), ("3",)]
    assert found["price_version"].n_unique() == 2


def test_usage_in_advance_is_refused_by_name():
    """Apply refuses it; should it get this far, it is an error and not a guess."""
    catalog = business("start: 2026-01-01", prices=f"[{{product: p, {PER_UNIT % '1'}}}]")
    book = catalog.pricebooks["b"].versions[0]
    advance = replace(book.value, invoicing=Invoicing(timing=Timing.ADVANCE))
    wrong = replace(catalog, pricebooks={"b": Chain(versions=(replace(book, value=advance),))})
    with pytest.raises(UsageInAdvance, match="contract k: p"):
        plan_lines(wrong, Accounted(PeriodSpec.parse("2026-01"), LATER))


def test_the_specs_that_pricing_reads():
    """One spec a priced meter, whatever it aggregates; none for products without one."""
    catalog = business("start: 2026-01-01")
    assert specs_needed(catalog) == (catalog.meters["m"].last.fact_spec.id,)
