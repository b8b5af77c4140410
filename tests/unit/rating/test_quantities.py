"""Quantities: whose usage, which group, every aggregation, one question to the store."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from catalog.clock import to_micros
from catalog.meters import Aggregation
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog, Chain
from rating.dimensions import Selector
from rating.pipeline import rate
from rating.support import UnsupportedTerms
from storage.memory.facts import MemoryFactSource
from tests.unit.rating.builders import LATER, Usage, amounts, catalog_of

SPEC = PeriodSpec.parse("2026-01")


def business(
    aggregation: str = "sum",
    *,
    subjects: str = "[s]",
    product: str = "",
    price: str = "",
    price_of_one: str = "1",
) -> Catalog:
    """One metered product, with two dimensions."""
    value = "" if aggregation == "count" else ", value: data.n"
    return catalog_of(f"""
    meters:
      m:
        {{event_type: t, aggregation: {aggregation}{value},
         dimensions: {{region: data.region, model: data.model}}}}
    products: {{p: {{name: P, meter: m {product}}}}}
    pricebooks:
      b:
        currency: USD
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, charge: {{model: per_unit, unit_price: "{price_of_one}"}} {price}}}]
    customers: {{c: {{name: C, subjects: {subjects}}}}}
    contracts: {{k: {{customer: c, pricebook: b, start: 2026-01-01}}}}
    """)


def quantities(catalog: Catalog, usage: Usage, *, zeros: bool = False):
    """(dimensions, quantity, events) of January's lines."""
    found = rate(catalog, period=SPEC, source=usage.source(), as_of=LATER, zeros=zeros).lines
    return amounts(found, "dimensions", "quantity", "event_count")


@pytest.mark.parametrize(
    ("aggregation", "values", "quantity"),
    [
        ("sum", ["1.5", "2", None], "3.5"),
        ("count", [None, None, None], "3"),
        ("min", ["3", "-1", "2"], "-1"),
        ("max", ["3", "-1", "2"], "3"),
        ("latest", ["3", "-1", "2"], "2"),
        ("average", ["1", "1", "0"], "0.666666667"),
        ("unique_count", ['"a"', "1", '"a"'], "2"),
    ],
)
def test_every_aggregation(aggregation, values, quantity):
    """Exact; an average shows 9 decimals and is priced by its fraction."""
    catalog = business(aggregation)
    usage = Usage(catalog)
    for hour, value in enumerate(values):
        usage.add("m", "s", f"2026-01-02T{hour:02d}:00:00", value)
    assert quantities(catalog, usage) == [("{}", quantity, 3)]


def test_an_average_is_priced_by_its_fraction():
    """A third at 0.015 is 0.005 and rounds up; the shown 0.333333333 would be 0.004999999995."""
    catalog = business("average", price_of_one="0.015")
    usage = Usage(catalog)
    for hour, value in enumerate(["1", "0", "0"]):
        usage.add("m", "s", f"2026-01-02T{hour:02d}:00:00", value)
    found = rate(catalog, period=SPEC, source=usage.source(), as_of=LATER).lines
    assert amounts(found, "quantity", "amount") == [("0.333333333", "0.01")]


@pytest.mark.parametrize("aggregation", ["min", "max", "average", "latest", "unique_count"])
def test_of_nothing_these_give_no_line(aggregation):
    """min, max, average, latest and unique_count of nothing: no line, also with zeros."""
    catalog = business(aggregation)
    assert quantities(catalog, Usage(catalog), zeros=True) == []


def test_zeros_are_listed_when_asked_for():
    """A sum of nothing is 0: omitted, unless zeros are asked for."""
    catalog = business()
    assert quantities(catalog, Usage(catalog)) == []
    assert quantities(catalog, Usage(catalog), zeros=True) == [("{}", "0", 0)]


def test_a_minimum_is_due_without_usage():
    """Quantity 0 with an amount is a line."""
    catalog = business(price=", minimum: '5'")
    found = rate(catalog, period=SPEC, source=Usage(catalog).source(), as_of=LATER).lines
    assert amounts(found, "quantity", "amount") == [("0", "5")]


def test_groups_are_lines_and_absent_dimensions_a_group_of_their_own():
    """One line a distinct group; a fact without the dimension is not lost."""
    catalog = business(price=", group_by: [region]")
    usage = Usage(catalog)
    usage.add("m", "s", "2026-01-02", 1, region="eu", model="a")
    usage.add("m", "s", "2026-01-03", 2, region="eu", model="b")
    usage.add("m", "s", "2026-01-04", 4, region="ü\"'", model="b")
    usage.add("m", "s", "2026-01-05", 8)
    assert quantities(catalog, usage) == [
        ('{"region":"eu"}', "3", 2),
        ('{"region":"ü\\"\'"}', "4", 1),
        ("{}", "8", 1),
    ]


@pytest.mark.parametrize(
    ("condition", "quantity"),
    [
        ("{in: [eu]}", "1"),
        ("{not_in: [eu]}", "2"),
        ("{not_in: [eu], optional: true}", "6"),
    ],
)
def test_a_products_filter(condition, quantity):
    """An absent dimension fails a test, unless it is optional."""
    catalog = business(product=f", filter: {{region: {condition}}}")
    usage = Usage(catalog)
    usage.add("m", "s", "2026-01-02", 1, region="eu")
    usage.add("m", "s", "2026-01-03", 2, region="us")
    usage.add("m", "s", "2026-01-04", 4)
    assert quantities(catalog, usage) == [
        ("{}", quantity, {"1": 1, "2": 1, "6": 2, "5": 2}[quantity])
    ]


def test_subjects_count_while_they_are_claimed():
    """Until exclusive, from inclusive; several claims of one subject never count twice."""
    catalog = business(
        subjects="[{subject: s, until: 2026-01-10}, {subject: s, from: 2026-01-20}, other]"
    )
    usage = Usage(catalog)
    for day, value in (("09", 1), ("10", 2), ("19", 4), ("20", 8)):
        usage.add("m", "s", f"2026-01-{day}", value)
    usage.add("m", "other", "2026-01-15", 16)
    usage.add("m", "stranger", "2026-01-15", 32)
    assert quantities(catalog, usage) == [("{}", "25", 3)]


def test_the_store_is_asked_once_and_each_span_once():
    """Two prices and two contracts on one meter and period share one span."""
    catalog = catalog_of("""
    meters: {m: {event_type: t, aggregation: sum, value: data.n, dimensions: {region: data.r}}}
    products:
      p: {name: P, meter: m}
      eu: {name: EU, meter: m, filter: {region: {in: [eu]}}}
    pricebooks:
      b:
        currency: USD
        invoicing: {timing: arrears, every_months: 1}
        prices:
          - {product: p, charge: {model: per_unit, unit_price: "1"}}
          - {product: eu, charge: {model: per_unit, unit_price: "1"}}
    customers: {c: {name: C, subjects: [s, t]}}
    contracts:
      k: {customer: c, pricebook: b, start: 2026-01-01}
      l: {customer: c, pricebook: b, start: 2026-01-01}
    """)
    usage = Usage(catalog)
    usage.add("m", "s", "2026-01-02", 1, region="eu").add("m", "t", "2026-01-02", 2)
    asked = []

    class Listening(MemoryFactSource):
        def sums(self, spans: pl.DataFrame, *, as_of) -> pl.DataFrame:
            asked.append(spans)
            return super().sums(spans, as_of=as_of)

    source = Listening(usage.source()._facts)
    found = rate(catalog, period=SPEC, source=source, as_of=LATER).lines
    assert amounts(found, "contract", "product", "quantity") == [
        ("k", "eu", "1"), ("k", "p", "3"), ("l", "eu", "1"), ("l", "p", "3")
    ]  # fmt: skip
    assert [spans.height for spans in asked] == [2]


def test_only_what_was_received_by_as_of_counts():
    """A later as_of sees the later fact; an earlier one does not."""
    catalog = business()
    usage = Usage(catalog).add("m", "s", "2026-01-02T00:00:00", 1)
    usage.add("m", "s", "2026-01-03T00:00:00", 2)
    received = usage.rows[0]["received_at"]
    first = rate(catalog, period=SPEC, source=usage.source(), as_of=to_micros(received)).lines
    assert amounts(first, "quantity") == [("1",)]
    assert quantities(catalog, usage) == [("{}", "3", 2)]


def test_meters_that_are_not_billable_are_not_priced():
    """Counted, never priced."""
    catalog = business()
    meter = catalog.meters["m"]
    silent = replace(meter.versions[0], value=replace(meter.last, billable=False))
    quiet = replace(catalog, meters={"m": Chain(versions=(silent,))})
    usage = Usage(quiet).add("m", "s", "2026-01-02", 1)
    assert quantities(quiet, usage, zeros=True) == []


def test_meters_that_cannot_be_priced_yet_are_refused_by_name():
    """Should such a catalog be stored all the same: an error that names the meter, no bill."""
    catalog = business("sum")
    meter = catalog.meters["m"]
    other = replace(meter.last, aggregation=Aggregation.WEIGHTED_SUM, window="5m")
    changed = replace(meter.versions[0], value=other)
    wrong = replace(catalog, meters={"m": Chain(versions=(changed,))})
    with pytest.raises(UnsupportedTerms, match="meter m: window of a weighted_sum"):
        rate(wrong, period=SPEC, source=Usage(wrong).source(), as_of=LATER)


def test_a_selector_parses_nothing_it_does_not_need():
    """Without filter and group_by even a text that is no JSON is the one group."""
    assert Selector(filter=(), group_by=()).group("not json") == "{}"
