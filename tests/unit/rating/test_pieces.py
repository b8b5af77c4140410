"""Lines priced in pieces: rows of a matrix, windows, single events, spans of tiers, plans."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest

from catalog.charges import Percentage
from catalog.clock import to_datetime, to_micros
from catalog.ids import ContractId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.charges.base import NotCovered
from rating.charges.events import BANDS, band_prices, banded
from rating.explain import Explanation, explain, line_facts
from rating.lines import named_in
from rating.pipeline import rate
from tests.oracle_charges import events_cost
from tests.unit.rating.builders import LATER, Usage, amounts, at, catalog_of

JANUARY = PeriodSpec.parse("2026-01")


def business(
    price: str, *, meter: str = "aggregation: sum, value: data.n", more: str = ""
) -> Catalog:
    """One price of one metered product with two dimensions; billed monthly."""
    return catalog_of(f"""
    meters:
      m: {{event_type: t, {meter}, dimensions: {{region: data.r, model: data.m}}}}
      n: {{event_type: u, aggregation: count}}
    products: {{p: {{name: P, meter: m}}}}
    pricebooks:
      b:
        currency: USD
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, {price}}}]
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts: {{k: {{customer: c, pricebook: b, start: 2026-01-01 {more}}}}}
    """)


def billed(usage: Usage, period: PeriodSpec = JANUARY) -> list[tuple[object, ...]]:
    """(quantity, amount) of the lines of a period."""
    found = rate(usage.catalog, period=period, source=usage.source(), as_of=LATER).lines
    return amounts(found, "quantity", "amount")


def explained(usage: Usage, period: PeriodSpec = JANUARY) -> Explanation:
    """How the one line of a period came about; it says what the totals say."""
    source = usage.source()
    (line,) = rate(usage.catalog, period=period, source=source, as_of=LATER).lines.rows(named=True)
    contract, day = named_in(line["line_id"])
    told = explain(
        usage.catalog,
        line_id=line["line_id"],
        period=day,
        contract=ContractId(contract),
        source=source,
        as_of=LATER,
    )
    assert Decimal(told.amount) == line["amount"]
    charge = next(step for step in told.steps if step.step == "charge")
    assert sum(Fraction(part["amount"] or 0) for part in told.parts) == Fraction(charge.after)
    return told


def parts(told: Explanation, *names: str) -> list[tuple[str | None, ...]]:
    """The named fields of each part of an explanation."""
    return [tuple(part[name] for name in names) for part in told.parts]


MATRIX = """charge: {model: matrix, rows: [
    {when: {region: eu, model: a}, unit_price: "5"},
    {when: {region: eu}, charge: {model: package, size: "10", package_price: "7"}},
    {when: {model: "*"}, charge: {model: flat, amount: "100"}}]"""


def test_the_row_with_most_named_keys_prices_each_subset_as_a_quantity_of_its_own():
    """Packages are of the row's usage alone; a flat row is a fee, due once it is used."""
    usage = Usage(business(MATRIX + "}"))
    usage.add("m", "s", "2026-01-02", 2, region="eu", model="a")
    usage.add("m", "s", "2026-01-03", 8, region="eu", model="b")
    usage.add("m", "s", "2026-01-04", 3, region="eu")
    usage.add("m", "s", "2026-01-05", 4, region="us", model="a")
    usage.add("m", "s", "2026-01-06", 5)
    assert billed(usage) == [("22", "124")]
    assert parts(explained(usage), "piece", "units", "amount") == [
        ("model=a, region=eu", "2", "10"),
        ("region=eu", "11", "14"),
        ("model=*", "1", "100"),
    ]


def test_usage_that_matches_no_row_is_refused_or_free():
    """Never guessed: an error that names the contract, unless the price says it is free."""
    rows = """charge: {model: matrix, rows: [{when: {region: eu}, unit_price: "5"}]"""
    refused = Usage(business(rows + "}")).add("m", "s", "2026-01-02", 2, region="us")
    with pytest.raises(NotCovered, match="contract k, product p: some usage matches no row"):
        billed(refused)
    free = Usage(business(rows + ", otherwise: free}")).add("m", "s", "2026-01-02", 2, region="us")
    assert billed(free.add("m", "s", "2026-01-02", 1, region="eu")) == [("3", "5")]


def test_included_units_come_off_the_rows_in_their_order():
    """Two of the first row, then one of the second before it is rounded up to packages."""
    usage = Usage(business(MATRIX + "}, included: '3'"))
    usage.add("m", "s", "2026-01-02", 2, region="eu", model="a")
    usage.add("m", "s", "2026-01-03", 11, region="eu")
    assert billed(usage) == [("13", "7")]


def test_a_dynamic_price_is_the_sum_of_what_the_events_name():
    """The quantity is the meter's; an event that names nothing costs nothing."""
    usage = Usage(business("charge: {model: dynamic, amount: data.cost, multiplier: '0.01'}"))
    usage.add("m", "s", "2026-01-02", 12).also("data.cost", "30.1")
    usage.add("m", "s", "2026-01-03", 8).also("data.cost", "10.1")
    usage.add("m", "s", "2026-01-04", 1).also("data.cost", None)
    assert billed(usage) == [("21", "0.4")]
    told = explained(usage)
    assert (told.quantity, told.exact_amount) == ("21", "0.402")


PLANS = """charge: {model: capacity, tiers: [
    {up_to: {m: "100", n: "1"}, amount: "10"}, {up_to: {m: "200", n: "2"}, amount: "20"}"""


@pytest.mark.parametrize(
    ("used", "events", "amount"), [(0, 0, "10"), (100, 1, "10"), (101, 0, "20"), (1, 2, "20")]
)
def test_a_capacity_is_the_first_plan_that_everything_fits(used, events, amount):
    """Also when nothing is used; the quantity is the plan."""
    usage = Usage(business(PLANS + "]}")).add("m", "s", "2026-01-02", used)
    for hour in range(events):
        usage.add("n", "s", f"2026-01-03T{hour:02d}:00:00")
    assert billed(usage) == [("1", amount)]


def test_a_capacity_beyond_its_last_plan_is_refused():
    """Unless the last plan holds anything."""
    usage = Usage(business(PLANS + "]}")).add("m", "s", "2026-01-02", 201)
    with pytest.raises(NotCovered, match="contract k, product p: the usage fits none"):
        billed(usage)
    open_ended = Usage(business(PLANS + ", {amount: '30'}]}")).add("m", "s", "2026-01-02", 201)
    assert billed(open_ended) == [("1", "30")]
    assert parts(explained(open_ended), "piece", "amount") == [("plan 3", "30")]


@pytest.mark.parametrize(
    ("charge", "values", "amount"),
    [
        ("percent: '1.3', fixed: '2', free_events: 3", [50, 100, 250, 400], "7.2"),
        ("percent: '1.3', fixed: '2', free_units: '250'", [50, 100, 250, 400], "11.15"),
        (
            "percent: '1.3', fixed: '2', free_events: 3, free_units: '250'",
            [50, 100, 250, 400],
            "11.15",
        ),
        ("percent: '1.3', fixed: '2', free_units: '250'", [100, 150, 50], "2.65"),
        ("percent: '10', event_minimum: '5', event_maximum: '5'", [1, 50, 100], "15"),
        ("percent: '1.3', fixed: '2'", [50, 100, 250, 400], "18.4"),
        ("percent: '0', fixed: '2'", [50, 100, 250, 400], "8"),
        ("percent: '2.99', event_minimum: '1.75', event_maximum: '12'", [10, 80, 10000], "16.14"),
        (
            "percent: '2.99', event_minimum: '1.75', event_maximum: '12', fixed: '2'",
            [10, 80, 10000],
            "18.69",
        ),
        (
            "percent: '2.99', event_minimum: '1.75', event_maximum: '12', free_units: '30'",
            [10, 80, 10000],
            "13.79",
        ),
        ("percent: '10', fixed: '1', event_minimum: '5'", [100, -40, 1], "12"),
    ],
)
def test_each_event_has_its_share_fixed_part_and_bounds(charge, values, amount):
    """Free while free units and free events last; what is taken back returns its share alone."""
    usage = Usage(business(f"charge: {{model: percentage, {charge}}}"))
    for hour, value in enumerate(values):
        usage.add("m", "s", f"2026-01-02T{hour:02d}:00:00", value)
    assert billed(usage) == [(str(sum(values)), amount)]
    assert sum(Fraction(p["amount"] or 0) for p in explained(usage).parts) == events_cost(
        usage.catalog.pricebooks["b"].last.prices[0].charge, map(Fraction, values)
    )


def test_events_are_explained_in_bands():
    """However many events there are: what was priced how, and what was free."""
    terms = "percent: '10', fixed: '1', free_units: '5', event_minimum: '2', event_maximum: '9'"
    usage = Usage(business(f"charge: {{model: percentage, {terms}}}"))
    for hour, value in enumerate([4, 2, 30, 1000, -7]):
        usage.add("m", "s", f"2026-01-02T{hour:02d}:00:00", value)
    assert parts(explained(usage), "piece", "units", "unit_price", "amount") == [
        ("share", "30", "0.1", "3"),
        ("fixed", "1", "1", "1"),
        ("event_minimum", "1", "2", "2"),
        ("event_maximum", "1", "9", "9"),
        ("returned", "-7", "0.1", "-0.7"),
        ("free", "5", "0", "0"),
    ]


def test_windows_are_priced_one_by_one():
    """The package of each hour, and what they come to together as the quantity."""
    price = "bucket: 1h, charge: {model: package, size: '100', package_price: '5'}"
    usage = Usage(business(price))
    for hour, value in enumerate([50, 150, 200, 99]):
        usage.add("m", "s", f"2026-01-02T{hour:02d}:00:00", value)
        usage.add("m", "s", f"2026-01-02T{hour:02d}:59:59.999999", 0)
    assert billed(usage) == [("499", "30")]
    told = explained(usage)
    assert parts(told, "piece", "units", "amount")[1] == ("2026-01-02T01:00:00Z", "150", "10")
    assert told.event_count == 8


def test_windows_of_the_largest_value():
    """The largest of each window is what is priced: the sum of them is the quantity."""
    price = "bucket: 1d, charge: {model: per_unit, unit_price: '0.10'}"
    usage = Usage(business(price, meter="aggregation: max, value: data.n"))
    for time, value in (("02T01", 3), ("02T09", 9), ("03T00", 10)):
        usage.add("m", "s", f"2026-01-{time}:00:00", value)
    assert billed(usage) == [("19", "1.9")]


def test_windows_of_averages_are_priced_exactly():
    """What is shown is rounded to nine decimals; a third is priced as a third."""
    price = "bucket: 1d, charge: {model: per_unit, unit_price: '0.03'}"
    usage = Usage(business(price, meter="aggregation: average, value: data.n"))
    for day in ("02", "03", "04"):
        for hour, value in enumerate([1, 0, 0]):
            usage.add("m", "s", f"2026-01-{day}T{hour:02d}:00:00", value)
    assert billed(usage) == [("1", "0.03")]
    assert explained(usage).quantity == "1"


def test_days_are_those_of_the_contracts_time_zone():
    """23:30 UTC is the next day in Berlin: another window."""
    price = "bucket: 1d, charge: {model: package, size: '10', package_price: '1'}"
    usage = Usage(business(price, more=", timezone: Europe/Berlin"))
    usage.add("m", "s", "2026-01-02T22:30:00", 5).add("m", "s", "2026-01-02T23:30:00", 5)
    assert billed(usage) == [("10", "2")]


def test_hours_count_what_happened_at_their_time_of_day():
    """Read on the contract's clock; a stretch may pass midnight. Its events are the line's."""
    price = "hours: ['22:00-06:00'], charge: {model: per_unit, unit_price: '1'}"
    usage = Usage(business(price, more=", timezone: Europe/Berlin"))
    for hour in range(24):
        usage.add("m", "s", f"2026-01-10T{hour:02d}:00:00", 2**hour)
    assert billed(usage) == [(str(sum(2**h for h in [21, 22, 23, 0, 1, 2, 3, 4])),) * 2]
    line = rate(usage.catalog, period=JANUARY, source=usage.source(), as_of=LATER).lines
    contract, day = named_in(line["line_id"][0])
    found = line_facts(
        usage.catalog,
        line_id=line["line_id"][0],
        period=day,
        contract=contract,
        source=usage.source(),
        as_of=LATER,
    ).collect()
    assert found.height == line["event_count"][0] == 8


YEARLY = """tiers_span: {every_months: 12},
    charge: {model: graduated, tiers: [{up_to: "10", unit_price: "2"}, {unit_price: "1"}]}"""


def test_tiers_accumulate_over_their_span():
    """Monthly lines of a yearly ladder come to what the year alone would; then it begins anew."""
    usage = Usage(business(YEARLY))
    for month, value in (("01", 6), ("02", 6), ("06", 8)):
        usage.add("m", "s", f"2026-{month}-15", value)
    usage.add("m", "s", "2027-01-15", 6)
    months = ["2026-01", "2026-02", "2026-06", "2027-01"]
    assert [billed(usage, PeriodSpec.parse(m)) for m in months] == [
        [("6", "12")],
        [("6", "10")],
        [("8", "8")],
        [("6", "12")],
    ]
    told = explained(usage, PeriodSpec.parse("2026-02"))
    assert told.quantity == "6"
    assert parts(told, "piece", "units", "amount") == [
        ("up to the end", "10", "20"),
        ("up to the end", "2", "2"),
        ("before, already priced", "6", "-12"),
    ]


def test_included_units_accumulate_with_the_tiers():
    """An allowance of the year, used up before anything is billed."""
    usage = Usage(business(YEARLY + ", included: '8'"))
    usage.add("m", "s", "2026-01-15", 6).add("m", "s", "2026-02-15", 6)
    months = ["2026-01", "2026-02"]
    assert [billed(usage, PeriodSpec.parse(m)) for m in months] == [[("6", "0")], [("6", "8")]]


def test_bands_add_up_to_every_event():
    """The columns against one event at a time, at the edges of the bounds."""
    charge = Percentage(
        percent=Decimal(-3),
        fixed=Decimal(1),
        event_minimum=Decimal(-2),
        event_maximum=Decimal(0),
    )
    values = [Decimal(n) / 3 * 100 // 1 / 100 for n in range(-9, 400, 7)]
    start = at("2026-01-01T00:00:00")
    facts = pl.DataFrame(
        {
            "key": [1] * len(values),
            "value": values,
            "time": [to_datetime(start + i) for i in range(len(values))],
            "received_at": [to_datetime(start)] * len(values),
            "node": ["n1"] * len(values),
            "seq": range(len(values)),
        },
        schema_overrides={"value": pl.Decimal(38, 9)},
    )
    bands = dict(banded(facts, charge, keys=["key"]).select("row", "quantity").iter_rows())
    prices = [Fraction(price.unit_price) for price in band_prices(charge)]
    total = sum((Fraction(bands[row]) * prices[row] for row in range(len(BANDS))), Fraction(0))
    assert total == events_cost(charge, map(Fraction, values))
    assert all(bands[row] for row in range(1, 4))


def test_a_level_is_weighed_by_how_long_it_was_held():
    """From each event to the period's end, over the period; what was there before all along."""
    level = "charge: {model: per_unit, unit_price: '1'}"
    meter = "aggregation: weighted_sum, value: data.n"
    usage = Usage(business(level, meter=meter))
    usage.add("m", "s", "2025-06-01", 4).add("m", "s", "2026-01-16T12:00:00", 10)
    usage.add("m", "s", "2026-02-15", "-6")
    assert billed(usage) == [("9", "9")]
    assert billed(usage, PeriodSpec.parse("2026-02")) == [("11", "11")]
    assert billed(usage, PeriodSpec.parse("2026-04")) == [("8", "8")]


def test_the_parts_of_a_split_period_hold_the_level_once():
    """A price that changes mid-month: each part weighs its own days, over the whole month."""
    catalog = catalog_of("""
    meters: {m: {event_type: t, aggregation: weighted_sum, value: data.n}}
    products: {p: {name: P, meter: m}}
    pricebooks:
      b:
        currency: USD
        invoicing: {timing: arrears, every_months: 1}
        prices:
          - {product: p, charge: {model: per_unit, unit_price: "1"}}
          - {product: p, charge: {model: per_unit, unit_price: "2"}, effective_from: 2026-01-11}
    customers: {c: {name: C, subjects: [s]}}
    contracts: {k: {customer: c, pricebook: b, start: 2026-01-01}}
    """)
    usage = Usage(catalog).add("m", "s", "2025-12-01", 31)
    assert billed(usage) == [("10", "10"), ("21", "42")]


def test_a_percentile_of_windowed_sums():
    """The 95th of twenty five-minute sums is the nineteenth smallest."""
    meter = "aggregation: percentile, percentile: 95, window: 5m, value: data.n"
    usage = Usage(business("charge: {model: per_unit, unit_price: '1'}", meter=meter))
    for window in range(20):
        for second in (0, 299):
            moment = to_datetime(at("2026-01-02T00:00:00") + (window * 300 + second) * 1_000_000)
            usage.add("m", "s", moment, window)
    assert to_micros(usage.rows[-1]["time"]) == at("2026-01-02T01:39:59")
    assert billed(usage) == [("36", "36")]
