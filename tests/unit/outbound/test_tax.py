"""Tax by table against a person with fractions: rates, rounding, and what is refused."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.changes import plan
from catalog.grammar import InvalidDocument, parse_document
from catalog.snapshot import Catalog
from invoicing.tax import TAXABLE
from outbound.tax import TableTax

Tree = dict[str, Any]
RATES = [
    {"percent": "19", "until": "2020-07-01"},
    {"percent": "16", "from": "2020-07-01", "until": "2021-01-01"},
    {"percent": "19", "from": "2021-01-01"},
    {"percent": "7", "tax_code": "books"},
]


def catalog_of(table: Tree | None, *, customer: Tree | None = None) -> Catalog:
    """A seller of a service and a book, with one tax table."""
    tree: Tree = {
        "products": {"service": {"name": "Service"}, "book": {"name": "B", "tax_code": "books"}},
        "customers": {
            "acme": {"name": "A", "subjects": []} | (customer or {"tax": {"jurisdiction": "DE"}})
        },
    }
    if table is not None:
        tree["taxes"] = {"DE": {"name": "Umsatzsteuer", "rates": RATES} | table}
    else:
        tree["customers"]["acme"].pop("tax", None)
    return plan(Catalog(), parse_document(tree)).catalog


@dataclass(frozen=True)
class Line:
    """One line of the document."""

    amount: Decimal
    product: str | None
    on: date


@dataclass(frozen=True)
class Taxed:
    """One document's tax: rows (rate, base, amount) by line, and what they add up to."""

    lines: list[dict[str, Any]]
    subtotal: Decimal
    tax: Decimal
    total: Decimal


class Waits(Exception):
    """The document cannot be taxed."""


def line(amount: str, product: str | None = "service", on: date = date(2026, 1, 31)) -> Line:
    """One line of the document."""
    return Line(amount=Decimal(amount), product=product, on=on)


def taxed(catalog: Catalog, *lines: Line, currency: str = "EUR", customer: str = "acme") -> Taxed:
    """The tax on one document of these lines, added up as finance does."""
    rows = [
        (
            "doc",
            f"l{index}",
            "",
            customer,
            "k",
            each.product,
            "usage",
            currency,
            each.amount,
            each.on,
        )
        for index, each in enumerate(lines)
    ]
    found = TableTax().assess(pl.DataFrame(rows, schema=TAXABLE, orient="row"), catalog=catalog)
    if found.waiting.height:
        assert found.taxed.is_empty()
        raise Waits(found.waiting["reason"][0])
    rows = found.taxed.to_dicts()
    with localcontext(prec=60):
        amounts = sum((each.amount for each in lines), Decimal(0))
        inside = sum((row["amount"] for row in rows if row["inclusive"]), Decimal(0))
        tax = sum((row["amount"] for row in rows), Decimal(0))
        subtotal = amounts - inside
        return Taxed(lines=rows, subtotal=subtotal, tax=tax, total=subtotal + tax)


@pytest.mark.parametrize(
    ("on", "percent"),
    [
        (date(2020, 6, 30), 19),
        (date(2020, 7, 1), 16),
        (date(2020, 12, 31), 16),
        (date(2021, 1, 1), 19),
    ],
)
def test_the_rate_is_that_of_the_day(on: date, percent: int) -> None:
    """The first day of a rate has it, its end does not."""
    found = taxed(catalog_of({}), line("100.00", on=on))
    assert (found.tax, found.total) == (Decimal(percent), Decimal(100 + percent))
    assert [(row["rate"], row["base"]) for row in found.lines] == [
        (Decimal(percent) / 100, Decimal(100))
    ]


def test_inclusive_prices_contain_it() -> None:
    """119.00 with 19 % inside is 100.00 and 19.00; the total stays what the price said."""
    found = taxed(catalog_of({"prices": "inclusive"}), line("119.00"), line("10.70", "book"))
    assert (found.subtotal, found.tax, found.total) == (
        Decimal("110.00"),
        Decimal("19.70"),
        Decimal("129.70"),
    )


def test_where_it_is_rounded_is_a_choice() -> None:
    """Three times 0.03 at 19 % is 0.01 each by line, 0.02 by invoice."""
    lines = (line("0.03"), line("0.03"), line("0.03"))
    assert taxed(catalog_of({"rounding": "line"}), *lines).tax == Decimal("0.03")
    by_invoice = taxed(catalog_of({"rounding": "invoice"}), *lines)
    assert by_invoice.tax == Decimal("0.02")
    assert [str(row["amount"])[:4] for row in by_invoice.lines] == ["0.01", "0.00", "0.01"]


def test_a_stated_exemption_is_a_zero_with_a_reason() -> None:
    """Reverse charge is zero because somebody said so, and the row says where."""
    customer = {"tax": {"jurisdiction": "DE", "exempt": "reverse charge", "registration": "AT1"}}
    found = taxed(catalog_of({}, customer=customer), line("100.00"))
    assert [(row["jurisdiction"], row["rate"]) for row in found.lines] == [("DE", 0)]
    assert (found.tax, found.total) == (0, 100)


def test_a_seller_without_tables_has_no_tax() -> None:
    """Where nobody declared tax, documents have none."""
    found = taxed(catalog_of(None), line("100.00"), line("-5.00"))
    assert (found.subtotal, found.tax, found.total, found.lines) == (95, 0, 95, [])


@pytest.mark.parametrize(
    ("catalog", "asked", "says"),
    [
        (catalog_of({}, customer={"metadata": {}}), line("1.00"), "no tax jurisdiction"),
        (
            catalog_of({"rates": [{"percent": "19", "from": "2021-01-01"}]}),
            line("1.00", on=date(2020, 12, 31)),
            "no rate of products without tax code on 2020-12-31",
        ),
        (catalog_of({"rates": RATES[:3]}), line("1.00", "book"), "no rate of tax code books"),
        (
            catalog_of({"rates": RATES[3:]}),
            line("-1.00", None),
            "no rate of products without tax code",
        ),
        (
            catalog_of({"effective_from": "2026-02-01"}),
            line("1.00"),
            "no tax table DE on 2026-01-31",
        ),
    ],
)
def test_without_a_rate_it_waits(catalog: Catalog, asked: Line, says: str) -> None:
    """Nothing that is missing ever becomes a zero."""
    with pytest.raises(Waits, match=says):
        taxed(catalog, asked)


def test_one_line_without_a_rate_makes_the_document_wait_and_no_other() -> None:
    """A document is taxed whole or not at all; the ones beside it are."""
    catalog = catalog_of({"rates": RATES[:3]})
    on, amount = date(2026, 1, 31), Decimal("1.00")
    rows = [
        ("a", "a1", "", "acme", "k", "service", "usage", "EUR", amount, on),
        ("a", "a2", "", "acme", "k", "book", "usage", "EUR", amount, on),
        ("b", "b1", "", "acme", "k", "service", "usage", "EUR", amount, on),
    ]
    frame = pl.DataFrame(rows, schema=TAXABLE, orient="row")
    found = TableTax().assess(frame, catalog=catalog)
    assert found.waiting["document"].to_list() == ["a"]
    assert found.taxed["line_id"].to_list() == ["b1"]


def test_a_child_is_taxed_where_its_parent_is() -> None:
    """Who says nothing of its own is where the one above it is."""
    tree = {
        "taxes": {"DE": {"name": "USt", "rates": RATES}},
        "customers": {
            "top": {"name": "T", "subjects": [], "tax": {"jurisdiction": "DE"}},
            "mid": {"name": "M", "subjects": [], "parent": "top"},
            "low": {"name": "L", "subjects": [], "parent": "mid"},
        },
    }
    catalog = plan(Catalog(), parse_document(tree)).catalog
    assert taxed(catalog, line("100.00", None), customer="low").tax == 19


@pytest.mark.parametrize(
    ("rates", "pointer", "says"),
    [
        (
            [{"percent": "1", "until": "2020-01-01"}, {"percent": "2", "from": "2020-02-01"}],
            "/taxes/DE/rates/1/from",
            "a hole: products without tax code has no rate from 2020-01-01 to 2020-02-01",
        ),
        (
            [{"percent": "2", "from": "2020-02-01"}, {"percent": "1", "until": "2020-01-01"}],
            "/taxes/DE/rates/0/from",
            "a hole",
        ),
        (
            [{"percent": "1", "until": "2020-03-01"}, {"percent": "2", "from": "2020-02-01"}],
            "/taxes/DE/rates/1/from",
            "overlap",
        ),
        (
            [{"percent": "1"}, {"percent": "2", "from": "2020-02-01"}],
            "/taxes/DE/rates/1/from",
            "ov",
        ),
        ([{"percent": "1"}, {"percent": "2"}], "/taxes/DE/rates/1/from", "overlap"),
        (
            [{"percent": "1", "from": "2020-02-01", "until": "2020-02-01"}],
            "/taxes/DE/rates/0/until",
            "later",
        ),
        ([{"percent": "101"}], "/taxes/DE/rates/0/percent", "at most 100"),
        ([{"percent": "-1"}], "/taxes/DE/rates/0/percent", "at least 0"),
        ([{"percent": 19}], "/taxes/DE/rates/0/percent", "string"),
        ([{"rate": "19"}], "/taxes/DE/rates/0/rate", "unknown key"),
        ([{"percent": "1", "from": "2020-01-01T00:00:00Z"}], "/taxes/DE/rates/0/from", "date"),
        ([], "/taxes/DE/rates", "1 to"),
    ],
)
def test_a_bad_table_is_refused_where_it_is_bad(rates: list[Tree], pointer: str, says: str) -> None:
    """A hole, an overlap or a wrong field names the place; nothing is kept."""
    with pytest.raises(InvalidDocument) as raised:
        catalog_of({"rates": rates})
    found = {error.pointer: error.detail for error in raised.value.errors}
    assert says in found[pointer]


def test_a_table_that_is_named_cannot_go() -> None:
    """A customer names a table that must be there."""
    tree = {"customers": {"c": {"name": "C", "subjects": [], "tax": {"jurisdiction": "FR"}}}}
    with pytest.raises(InvalidDocument, match="there is no tax table 'FR'"):
        plan(Catalog(), parse_document(tree))


def by_hand(amount: Decimal, percent: str, *, inclusive: bool) -> Fraction:
    """The exact tax of an amount."""
    rate = Fraction(percent)
    return Fraction(amount) * rate / (100 + rate if inclusive else 100)


def rounded(exact: Fraction, digits: int) -> Decimal:
    """To the minor unit, half away from zero, as the decimal module does it."""
    with localcontext(prec=200):
        number = Decimal(exact.numerator) / Decimal(exact.denominator)
        # A quotient this long is only ever a tie where it is exactly one.
        return number.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


percents = st.decimals(0, 100, places=3).map(str)
units = st.integers(-(10**16), 10**16)


@given(
    amounts=st.lists(st.tuples(units, st.sampled_from(["service", "book"])), max_size=12),
    percent=percents,
    reduced=percents,
    inclusive=st.booleans(),
    per_invoice=st.booleans(),
    currency=st.sampled_from([("EUR", 2), ("JPY", 0), ("KWD", 3)]),
)
def test_tax_is_what_a_person_gets(
    amounts: list[tuple[int, str]],
    percent: str,
    reduced: str,
    inclusive: bool,
    per_invoice: bool,
    currency: tuple[str, int],
) -> None:
    """Every line and every sum is the exact fraction, rounded once where the table says."""
    code, digits = currency
    table = {
        "rates": [{"percent": percent}, {"percent": reduced, "tax_code": "books"}],
        "prices": "inclusive" if inclusive else "exclusive",
        "rounding": "invoice" if per_invoice else "line",
    }
    lines = [line(f"{Decimal(each).scaleb(-digits):f}", product) for each, product in amounts]
    found = taxed(catalog_of(table), *lines, currency=code)
    step = Decimal(1).scaleb(-digits)
    exact: defaultdict[str, list[Fraction]] = defaultdict(list)
    for asked, got in zip(lines, found.lines, strict=True):
        rate = reduced if asked.product == "book" else percent
        own = by_hand(asked.amount, rate, inclusive=inclusive)
        exact[str(asked.product)].append(own)
        inside = Fraction(got["amount"]) if inclusive else 0
        assert Fraction(got["base"]) + inside == Fraction(asked.amount)
        assert Fraction(got["rate"]) == Fraction(rate) / 100
        assert abs(Fraction(got["amount"]) - own) < Fraction(step)
        if not per_invoice:
            assert Fraction(got["amount"]) == Fraction(rounded(own, digits))
    if per_invoice:
        expected = [rounded(sum(owns, Fraction(0)), digits) for owns in exact.values()]
    else:
        expected = [
            sum((Fraction(rounded(own, digits)) for own in owns), Fraction(0))
            for owns in exact.values()
        ]
    assert Fraction(found.tax) == sum(map(Fraction, expected))
    assert Fraction(found.total) == Fraction(found.subtotal) + Fraction(found.tax)
    assert Fraction(found.subtotal) == sum(Fraction(row["base"]) for row in found.lines)


days = st.dates(date(2019, 1, 1), date(2022, 12, 31))


@given(cuts=st.lists(days, min_size=1, max_size=6, unique=True), on=days)
def test_a_table_without_holes_answers_every_day(cuts: list[date], on: date) -> None:
    """However a time line is cut, each day has exactly the rate of its piece."""
    bounds = sorted(cuts)
    edges = [None, *bounds, None]
    rates = []
    for index in range(len(edges) - 1):
        since, until = edges[index], edges[index + 1]
        rate = {"percent": str(index)}
        rate |= {"from": since.isoformat()} if since else {}
        rate |= {"until": until.isoformat()} if until else {}
        rates.append(rate)
    found = taxed(catalog_of({"rates": rates}), line("100.00", on=on))
    assert found.tax == sum(cut <= on for cut in bounds)
    if len(bounds) > 1:  # the same with one piece gone is a hole
        middle = rates[1]
        with pytest.raises(InvalidDocument, match="a hole"):
            catalog_of({"rates": [rate for rate in rates if rate is not middle]})
    one_more = bounds[0] + timedelta(days=1)
    with pytest.raises(InvalidDocument, match=r"overlap|later"):
        catalog_of({"rates": [rates[0] | {"until": one_more.isoformat()}, *rates[1:]]})
