"""What-if: the difference of two whole ratings, whatever the patch touches."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from catalog.changes import plan
from catalog.errors import OutOfRange
from catalog.grammar import InvalidDocument, parse_document
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.pipeline import Asked, rate
from rating.support import unsupported
from rating.whatif import Simulator, touched
from tests.unit.rating.builders import LATER, Usage, catalog_of
from tests.unit.rating.businesses import catalog_from, events, source_of, trees

SECTIONS = ("pricebooks", "customers", "contracts", "products", "meters")


def sums(lines: pl.DataFrame) -> dict[tuple[str, str | None, str], Decimal]:
    """What lines come to by customer, product and currency; nothing where they are nothing."""
    keys = ["customer", "product", "currency"]
    found = lines.group_by(keys).agg(pl.col("amount").sum()).rows()
    return {(c, p, k): amount for c, p, k, amount in found}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tree=trees(),
    other=trees(),
    sections=st.sets(st.sampled_from(SECTIONS), min_size=1, max_size=2),
    found=events(),
    text=st.sampled_from(["2026", "2026-02", "2026-06", "2025"]),
)
def test_it_is_what_two_ratings_differ_by(tree, other, sections, found, text):
    """Rated whole and again under the patch: the same rows, to the cent."""
    before = catalog_from(tree)
    document = parse_document({name: other[name] for name in sections})
    try:
        after = plan(before, document, unsupported=unsupported).catalog
    except InvalidDocument:
        assume(False)
    spec, source = PeriodSpec.parse(text), source_of(before, found)
    try:
        old = rate(before, period=spec, source=source, as_of=LATER).lines
        new = rate(after, period=spec, source=source, as_of=LATER).lines
    except (NotCovered, OutOfRange):
        return
    compared = Simulator(source).compare(before, after, Asked(period=spec, as_of=LATER))
    rows = compared.rows.rows(named=True)
    assert {(r["customer"], r["product"], r["currency"]) for r in rows} == {*sums(old), *sums(new)}
    for row in rows:
        key = (row["customer"], row["product"], row["currency"])
        assert row["before"] == sums(old).get(key, 0)
        assert row["after"] == sums(new).get(key, 0)
        assert row["difference"] == row["after"] - row["before"]
    assert (compared.lines_before, compared.lines_after) == (old.height, new.height)
    assert compared.events == old["event_count"].sum()


BUSINESS = """
meters: {m: {event_type: t, aggregation: sum, value: data.n}, n: {event_type: u, aggregation: count}}
products: {p: {name: P, meter: m}, q: {name: Q, meter: n}}
pricebooks:
  b1:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices: [{product: p, charge: {model: per_unit, unit_price: 2}}]
  b2:
    currency: EUR
    invoicing: {timing: arrears, every_months: 1}
    prices: [{product: q, charge: {model: per_unit, unit_price: 3}}]
customers: {c1: {name: C1, subjects: [s1]}, c2: {name: C2, subjects: [s2]}}
contracts:
  k1: {customer: c1, pricebook: b1, start: 2026-01-01}
  k2: {customer: c2, pricebook: b2, start: 2026-01-01}
  k3: {customer: c2, pricebook: b1, start: 2026-01-01, prices: [{product: q, charge: {model: per_unit, unit_price: 1}, additional: true}]}
"""  # noqa: E501


def patched(text: str):
    """The business, and the same under a patch."""
    before = catalog_of(BUSINESS)
    import yaml

    tree = yaml.load(text, Loader=yaml.BaseLoader)
    return before, plan(before, parse_document(tree)).catalog


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("customers: {c1: {name: C1, subjects: [s1, s9]}}", {"k1"}),
        ("customers: {c2: {name: C2, subjects: [s9]}}", {"k2", "k3"}),
        ("products: {q: {name: Q2, meter: n}}", {"k2", "k3"}),
        ("products: {q: {name: Q, meter: n}}", set()),
        ("meters: {m: {event_type: t, aggregation: max, value: data.n}}", {"k1", "k3"}),
        ("contracts: {k1: {customer: c1, pricebook: b1, start: 2026-02-01}}", {"k1"}),
        ("contracts: {k9: {customer: c1, pricebook: b2, start: 2026-02-01}}", {"k9"}),
        ("features: {f: {kind: boolean}}", set()),
    ],
)
def test_only_what_a_patch_touches_is_rated_again(patch, expected):
    """A contract is touched by itself, its customer, its pricebook, and what that prices."""
    before, after = patched(patch)
    assert touched(before, after) == expected


def test_a_change_of_customer_moves_the_amount():
    """What one customer no longer pays, the other does: two rows that cancel out."""
    before, after = patched("contracts: {k1: {customer: c2, pricebook: b1, start: 2026-01-01}}")
    usage = Usage(before).add("m", "s1", "2026-01-05T00:00:00", "10")
    usage.add("m", "s2", "2026-01-05T00:00:00", "1")
    asked = Asked(period=PeriodSpec.parse("2026-01"), as_of=LATER)
    rows = Simulator(usage.source()).compare(before, after, asked).rows.rows(named=True)
    assert [(r["customer"], str(r["before"]), str(r["after"])) for r in rows] == [
        ("c1", "20.000000", "0.000000"),
        ("c2", "2.000000", "4.000000"),
    ]


def test_what_only_the_patch_cannot_rate_says_so():
    """The error names the line, and that it is the changed catalog's."""
    tiers = "{model: volume, tiers: [{up_to: 5, unit_price: 1}]}"
    before, after = patched(
        f"contracts: {{k1: {{customer: c1, pricebook: b1, start: 2026-01-01, "
        f"prices: [{{product: p, charge: {tiers}}}]}}}}"
    )
    usage = Usage(before).add("m", "s1", "2026-01-05T00:00:00", "10")
    asked = Asked(period=PeriodSpec.parse("2026-01"), as_of=LATER)
    with pytest.raises(NotCovered, match="under the changed catalog: contract k1") as caught:
        Simulator(usage.source()).compare(before, after, asked)
    assert [line["contract"] for line in caught.value.lines] == ["k1"]
