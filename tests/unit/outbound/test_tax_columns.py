"""Tax of many documents at once against a loop over lines, one after the other, with fractions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.changes import plan
from catalog.errors import OutOfRange
from catalog.grammar import parse_document
from catalog.snapshot import Catalog
from invoicing.tax import TAXABLE, TAXED, Assessment
from outbound.tax import TableTax

Tree = dict[str, Any]
Row = tuple[Any, ...]
DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3}
PRODUCTS = {"service": None, "book": "books", "meal": "food"}
PARENTS = {"top": None, "mid": "top", "low": "mid", "away": None, "nowhere": None}
DAYS = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 31)]
CUT = date(2026, 1, 1)

percents = st.decimals(0, 100, places=3).map(str)


@st.composite
def tables(draw: st.DrawFn) -> Tree:
    """A table with some of three codes; each rate may end or begin with the year."""
    rates: list[Tree] = []
    for code in (None, "books", "food"):
        marked = {} if code is None else {"tax_code": code}
        shape = draw(st.sampled_from(["none", "before", "after", "both", "always"]))
        if shape in {"before", "both"}:
            rates.append({"percent": draw(percents), "until": CUT.isoformat()} | marked)
        if shape in {"after", "both"}:
            rates.append({"percent": draw(percents), "from": CUT.isoformat()} | marked)
        if shape == "always":
            rates.append({"percent": draw(percents)} | marked)
    return {
        "name": "T",
        "rates": rates or [{"percent": "1"}],
        "prices": draw(st.sampled_from(["inclusive", "exclusive"])),
        "rounding": draw(st.sampled_from(["line", "invoice"])),
    }


@st.composite
def sellers(draw: st.DrawFn) -> Tree:
    """Two jurisdictions; customers say where they are, or leave it to who is above them."""
    customers: Tree = {}
    for name, parent in PARENTS.items():
        customer: Tree = {"name": name, "subjects": []} | ({"parent": parent} if parent else {})
        place = draw(st.sampled_from([None, "DE", "FR"])) if name != "nowhere" else None
        if place:
            exempt = draw(st.sampled_from([{}, {}, {"exempt": "reverse charge"}]))
            customer["tax"] = {"jurisdiction": place} | exempt
        customers[name] = customer
    french = draw(tables()) | draw(st.sampled_from([{}, {"effective_from": CUT.isoformat()}]))
    return {
        "products": {
            name: {"name": name} | ({"tax_code": code} if code else {})
            for name, code in PRODUCTS.items()
        },
        "customers": customers,
        "taxes": {"DE": draw(tables()), "FR": french},
    }


@st.composite
def documents(draw: st.DrawFn) -> list[Row]:
    """TAXABLE rows of a few documents, in any order; those of one share currency and day."""
    heads = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(DIGITS)), st.sampled_from(DAYS)),
            min_size=1,
            max_size=4,
        )
    )
    lines = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(heads) - 1),
                st.sampled_from(sorted(PARENTS)[:-1] * 3 + ["nowhere"]),
                st.sampled_from([*PRODUCTS, None]),
                st.integers(-(10**16), 10**16) | st.integers(-30, 30),
            ),
            max_size=14,
        )
    )
    rows: list[Row] = []
    for index, (number, customer, product, units) in enumerate(lines):
        currency, on = heads[number]
        amount = Decimal(units).scaleb(-DIGITS[currency])
        own = (f"d{number}", f"l{index}", "", customer, "k", product, "usage", currency, amount, on)
        rows.append(own)
    return rows


def above(seller: Tree, customer: str | None) -> Tree | None:
    """Where a customer is taxed."""
    while customer is not None:
        own: Tree | None = seller["customers"][customer].get("tax")
        if own:
            return own
        customer = PARENTS[customer]
    return None


def rate_of(seller: Tree, row: Row) -> tuple[Row, Tree] | str:
    """Jurisdiction, code and percent of a line, and its table; or why there is none."""
    _, _, _, customer, _, product, *_, on = row
    place = above(seller, customer)
    if place is None:
        return f"customer {customer} has no tax jurisdiction on {on}"
    name = place["jurisdiction"]
    table = seller["taxes"][name]
    if on.isoformat() < table.get("effective_from", ""):
        return f"there is no tax table {name} on {on}"
    code = PRODUCTS[product] if product else None
    if "exempt" in place:
        return (name, code, Fraction(0)), table
    for rate in table["rates"]:
        begun = rate.get("from", "0") <= on.isoformat() < rate.get("until", "9")
        if begun and rate.get("tax_code") == code:
            return (name, code, Fraction(rate["percent"])), table
    of = f"tax code {code}" if code else "products without tax code"
    return f"tax table {name} has no rate of {of} on {on}"


def nearest(exact: Fraction) -> int:
    """Half away from zero."""
    up = abs(exact) + Fraction(1, 2)
    return (1 if exact >= 0 else -1) * (up.numerator // up.denominator)


def by_hand(seller: Tree, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """TAXED and WAITING rows, line by line."""
    taxed: list[Row] = []
    waiting: list[Row] = []
    for document in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == document]
        rates = [rate_of(seller, row) for row in mine]
        reasons = {rate for rate in rates if isinstance(rate, str)}
        if reasons:
            waiting.append((document, "; ".join(sorted(reasons))))
            continue
        accrued: dict[Row, Fraction] = {}
        for row, rate in zip(mine, rates, strict=True):
            assert not isinstance(rate, str)
            key, table = rate
            inclusive, digits = table["prices"] == "inclusive", DIGITS[row[7]]
            units = Fraction(row[8]) * 10**digits
            own = units * key[2] / (100 + key[2] if inclusive else 100)
            if table["rounding"] == "line":
                tax = nearest(own)
            else:
                before = accrued.get(key, Fraction(0))
                accrued[key] = before + own
                tax = nearest(before + own) - nearest(before)
            share, base = Fraction(tax, 10**digits), Fraction(row[8])
            net = base - share if inclusive else base
            taxed.append((*row[:2], *key[:2], key[2] / 100, inclusive, net, share))
    return taxed, waiting


def assessed(rows: list[Row], catalog: Catalog) -> Assessment:
    """What the engine says."""
    frame = pl.DataFrame(rows, schema=TAXABLE, orient="row")
    return TableTax().assess(frame, catalog=catalog)


@given(seller=sellers(), rows=documents())
def test_tax_in_columns_is_the_tax_of_a_loop(seller: Tree, rows: list[Row]) -> None:
    """Rates, roundings, what accrues, what waits and why, and the order: all as one by one."""
    found = assessed(rows, plan(Catalog(), parse_document(seller)).catalog)
    taxed, waiting = by_hand(seller, rows)
    assert found.waiting.rows() == waiting
    numbers = {name for name, dtype in TAXED.items() if dtype.is_numeric()}
    seen = [
        tuple(Fraction(v) if n in numbers else v for n, v in row.items())
        for row in found.taxed.iter_rows(named=True)
    ]
    assert seen == taxed
    assert found.taxed.schema == TAXED


def seller_with(percent: str, **table: object) -> Catalog:
    """One customer, one table, one rate."""
    tree: Tree = {
        "customers": {"c": {"name": "C", "subjects": [], "tax": {"jurisdiction": "DE"}}},
        "taxes": {"DE": {"name": "T", "rates": [{"percent": percent}]} | table},
    }
    return plan(Catalog(), parse_document(tree)).catalog


def test_the_greatest_amounts_are_exact() -> None:
    """Two thousand lines of 10^17 less a fils, at the longest rate there is, summed as one."""
    catalog, count = seller_with("99.999999", rounding="invoice"), 2_000
    on, large = date(2026, 1, 31), Decimal(10**20 - 1).scaleb(-3)
    own = (None, "usage", "KWD", large, on)
    found = assessed([("d", f"l{n}", "", "c", "k", *own) for n in range(count)], catalog)
    exact = nearest((10**20 - 1) * count * Fraction("99.999999") / 100)
    assert sum(map(Fraction, found.taxed["amount"])) == Fraction(exact, 1_000)


def test_what_does_not_fit_is_refused_and_never_wraps() -> None:
    """Numbers that no 128 bits hold are out of range, not another amount."""
    on, beyond = date(2026, 1, 31), Decimal(10**31)
    row = ("d", "l", "", "c", "k", None, "usage", "JPY", beyond, on)
    with pytest.raises(OutOfRange, match="more digits than are kept"):
        assessed([row], seller_with("19"))


def test_an_amount_finer_than_its_currency_is_a_mistake() -> None:
    """Lines are rounded before they are taxed; nothing is rounded here in silence."""
    row = ("d", "l", "", "c", "k", None, "usage", "JPY", Decimal("1.5"), date(2026, 1, 31))
    with pytest.raises(AssertionError, match="more digits than its currency"):
        assessed([row], seller_with("10"))
