"""Journals: debits are credits in every entry and currency, and nothing is lost on the way."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.grammar import InvalidDocument
from invoicing.closed import DOCUMENTS
from outbound.destinations import Destination
from outbound.documents.xero import XeroRefuses
from outbound.grammar import document_of, read_destination
from outbound.rendering import filtered, render
from outbound.streams import BILLED, Batch, Stream

ACCOUNTS = {
    "receivable": "1200",
    "revenue": "4000",
    "tax_payable": "2200",
    "deferred": "2400",
    "credits": "2300",
    "discounts": "4900",
    "rules": [
        {"account": "4010", "products": ["tokens"], "entities": ["eu"]},
        {"account": "4020", "kinds": ["minimum", "commitment"]},
    ],
}


def destination(document: str = "journal", **given: Any) -> Destination:
    """A journal destination."""
    options = {"accounts": given.pop("accounts", ACCOUNTS), **given.pop("options", {})}
    tree = {"kind": "files", "folder": "gl", "format": "csv", "document": document,
            "options": options} | given  # fmt: skip
    return read_destination("gl", tree)


def batch(rows: list[dict[str, Any]], stream: Stream = Stream.DOCUMENTS) -> Batch:
    """A batch of BILLED lines; what a row does not say is usual."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    usual = {
        "line_id": "l", "customer": "acme", "contract": "k1", "product": "tokens",
        "dimensions": "{}", "timing": "arrears", "period_start": moment, "period_end": moment,
        "currency": "USD", "quantity": Decimal(1), "kind": "usage", "status": "closed",
        "accounting_date": date(2026, 1, 31), "document": "d", "entity": "", "closed_by": "2026-01",
        "document_id": "inv_1", "number": "INV-1", "document_kind": "invoice",
        "document_date": date(2026, 2, 2), "tax": Decimal(0),
    }  # fmt: skip
    found = []
    for index, row in enumerate(rows, start=1):
        full = usual | {"sequence": index} | row
        full.setdefault("billed_customer", full["customer"])
        full.setdefault("net", full["amount"])
        full.setdefault("gross", full["net"] + full["tax"])
        found.append([full.get(name) for name in BILLED])
    lines = pl.DataFrame(found, schema=BILLED, orient="row")
    return Batch(stream=stream, after=0, upto=len(rows), lines=lines,
                 documents=pl.DataFrame(schema=DOCUMENTS))  # fmt: skip


def posted(rows: list[dict[str, Any]], **given: Any) -> list[tuple[str, str, str]]:
    """(account, debit, credit) of each posting, in order."""
    document, options = document_of(destination(**given))
    found = document.rows(batch(rows), options)
    return [
        (account, f"{debit.normalize():f}", f"{credit_.normalize():f}")
        for account, debit, credit_ in found.select("account", "debit", "credit").iter_rows()
    ]


def test_an_invoice_with_tax() -> None:
    """The customer owes the gross; revenue is the net, the state gets the rest."""
    assert posted([{"amount": Decimal(100), "tax": Decimal(19)}]) == [
        ("1200", "119", "0"),
        ("4000", "0", "100"),
        ("2200", "0", "19"),
    ]


def test_each_kind_has_its_account() -> None:
    """Advance fees are deferred, credits come off what was paid before, rules come first."""
    rows = [
        {"amount": Decimal(50), "kind": "fixed", "timing": "advance"},
        {"amount": Decimal(-2), "kind": "adjustment", "timing": "advance"},
        {"amount": Decimal(30), "kind": "fixed"},
        {"amount": Decimal(-20), "kind": "credit", "product": None},
        {"amount": Decimal(-5), "kind": "discount", "product": None},
        {"amount": Decimal(7), "kind": "minimum", "product": None},
        {"amount": Decimal(9), "entity": "eu", "document_id": "inv_2"},
    ]
    assert posted(rows) == [
        ("1200", "60", "0"),
        ("2400", "0", "50"),
        ("2400", "2", "0"),
        ("4000", "0", "30"),
        ("2300", "20", "0"),
        ("4900", "5", "0"),
        ("4020", "0", "7"),
        ("1200", "9", "0"),
        ("4010", "0", "9"),
    ]


def test_who_is_billed_owes_it() -> None:
    """A family's invoice is its parent's receivable (and tax); revenue is told by the child."""
    family = {"billed_customer": "top", "tax": Decimal(19), "amount": Decimal(100)}
    rows = [family | {"customer": "kid1", "contract": "k1"}, family | {"customer": "kid2"}]
    document, options = document_of(destination())
    found = document.rows(batch(rows), options).select("account", "customer", "contract")
    assert found.rows() == [
        ("1200", "top", None),
        ("4000", "kid1", "k1"),
        ("4000", "kid2", "k1"),
        ("2200", "top", None),
    ]


def test_a_credit_note_turns_the_sides() -> None:
    """What an invoice debited, its credit note credits."""
    rows = [{"amount": Decimal(-100), "tax": Decimal(-19), "document_kind": "credit_note"}]
    assert posted(rows) == [("1200", "0", "119"), ("4000", "100", "0"), ("2200", "19", "0")]


def test_nothing_is_posted_for_nothing() -> None:
    """A line of 0 makes no posting, a document of 0 no receivable."""
    rows = [{"amount": Decimal(0)}, {"amount": Decimal(5)}, {"amount": Decimal(-5)}]
    assert posted(rows) == [("4000", "0", "5"), ("4000", "5", "0")]


def test_lines_are_posted_as_they_close() -> None:
    """Posted from closed lines there is no tax, and an entry is a contract's part of a closing."""
    found = destination(accounts=ACCOUNTS | {"post": "lines"})
    document, options = document_of(found)
    assert document.stream(options) is Stream.LINES
    rows = [
        {"amount": Decimal(2)},
        {"amount": Decimal(3)},
        {"amount": Decimal(4), "contract": "k2"},
    ]
    frame = document.rows(batch(rows, Stream.LINES), options)
    assert frame["entry"].unique(maintain_order=True).to_list() == [
        "2026-01//k1/2026-01-31/USD/1",
        "2026-01//k2/2026-01-31/USD/3",
    ]
    assert frame["debit"].to_list() == [5, 0, 0, 4, 0]


cents = st.integers(-(10**14), 10**14).map(lambda units: Decimal(units).scaleb(-2))
taxes = st.integers(-(10**12), 10**12).map(lambda units: Decimal(units).scaleb(-2))
booked = st.fixed_dictionaries(
    {
        "amount": cents,
        "tax": taxes,
        "product": st.sampled_from(["tokens", "seats", None]),
        "kind": st.sampled_from(
            ["usage", "fixed", "minimum", "commitment", "credit", "discount", "adjustment"]
        ),
        "timing": st.sampled_from(["arrears", "advance", "once"]),
        "document": st.integers(0, 4),
    }
)
# What an entry's documents share: currency and entity go with the document.
SHARED = [("USD", ""), ("EUR", "eu"), ("USD", "eu"), ("KWD", ""), ("EUR", "")]


@given(rows=st.lists(booked, min_size=1, max_size=30), mapped=st.booleans())
def test_debits_are_credits(rows: list[dict[str, Any]], mapped: bool) -> None:
    """In every entry, per currency and entity; and each account holds what its lines say."""
    for row in rows:
        number = row.pop("document")
        row["document_id"] = f"inv_{number}"
        row["currency"], row["entity"] = SHARED[number]
    accounts = ACCOUNTS if mapped else {name: ACCOUNTS[name] for name in
                                        ("receivable", "revenue", "tax_payable")}  # fmt: skip
    document, options = document_of(destination(accounts=accounts))
    found = document.rows(batch(rows), options)
    for keys in (["entry", "currency"], ["currency"], ["currency", "entity"]):
        sums = found.group_by(keys).agg(pl.col("debit").sum(), pl.col("credit").sum())
        assert sums.filter(pl.col("debit") != pl.col("credit")).is_empty()
    assert found.filter((pl.col("debit") < 0) | (pl.col("credit") < 0)).is_empty()
    assert found.filter((pl.col("debit") > 0) == (pl.col("credit") > 0)).is_empty()
    expected: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row in rows:
        expected["1200"] += Fraction(row["amount"]) + Fraction(row["tax"])
        expected["2200"] -= Fraction(row["tax"])
        expected["own"] -= Fraction(row["amount"])
    told: defaultdict[str, Fraction] = defaultdict(Fraction)
    for account, debit, credit_ in found.select("account", "debit", "credit").iter_rows():
        name = account if account in {"1200", "2200"} else "own"
        told[name] += Fraction(debit) - Fraction(credit_)
    assert {k: v for k, v in told.items() if v} == {k: v for k, v in expected.items() if v}


@pytest.mark.parametrize(
    ("accounts", "pointer"),
    [
        ({"revenue": "1", "tax_payable": "2"}, "/options/accounts"),
        (ACCOUNTS | {"recievable": "1"}, "/options/accounts/recievable"),
        (ACCOUNTS | {"rules": [{"products": ["a"]}]}, "/options/accounts/rules/0"),
        (
            ACCOUNTS | {"rules": [{"account": "1", "kinds": ["tip"]}]},
            "/options/accounts/rules/0/kinds/0",
        ),
        (ACCOUNTS | {"post": "everything"}, "/options/accounts/post"),
    ],
)
def test_a_bad_mapping_names_its_place(accounts: dict[str, Any], pointer: str) -> None:
    """A journal without its accounts is refused before anything is posted."""
    with pytest.raises(InvalidDocument) as raised:
        destination(accounts=accounts)
    assert pointer in [error.pointer for error in raised.value.errors]


def test_one_document_goes_to_two_ledgers_by_product() -> None:
    """Each ledger balances by itself; together they have every line once."""
    rows = [
        {"amount": Decimal(10), "tax": Decimal("1.90"), "line_id": "a"},
        {"amount": Decimal(20), "tax": Decimal("3.80"), "line_id": "b", "product": "seats"},
        {"amount": Decimal(-3), "line_id": "c", "product": None, "kind": "discount"},
    ]
    seen = []
    for choice in ({"in": ["tokens"]}, {"not_in": ["tokens"]}):
        found = destination(filter={"products": choice})
        document, options = document_of(found)
        frame = document.rows(filtered(batch(rows), found.filter), options)
        assert frame["debit"].sum() == frame["credit"].sum() > 0
        seen += frame["line_id"].drop_nulls().to_list()
    assert sorted(seen) == ["a", "b", "c"]


def test_an_erp_import_is_one_file() -> None:
    """Xero's template: its headings, its dates, debits positive; other currencies are refused."""
    erp = destination("xero", options={"currency": "USD", "tax_rate": "Tax Exempt (0%)"},
                      columns=["*Narration", "*Date", "Description", "*AccountCode", "*TaxRate",
                               "*Amount"])  # fmt: skip
    rows = [{"amount": Decimal(100), "tax": Decimal(19)}]
    content = render(erp, batch(rows), {}).content.decode()
    assert content.splitlines() == [
        "*Narration,*Date,Description,*AccountCode,*TaxRate,*Amount",
        "INV-1,02/02/2026,acme,1200,Tax Exempt (0%),119.00",
        "INV-1,02/02/2026,acme tokens usage,4000,Tax Exempt (0%),-100.00",
        "INV-1,02/02/2026,acme,2200,Tax Exempt (0%),-19.00",
    ]
    with pytest.raises(XeroRefuses, match="filter EUR out"):
        render(erp, batch([{"amount": Decimal(1), "currency": "EUR"}]), {})
    with pytest.raises(XeroRefuses, match="300"):
        render(erp, batch([{"amount": Decimal(1)}] * 300), {})
