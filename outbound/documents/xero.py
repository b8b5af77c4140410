"""Xero's manual journals: the columns of its import template, one row a posting.

Xero takes one currency (its own), at most 300 rows a file, days as dd/mm/yyyy, and an amount that
is positive for a debit. It keeps its accounts receivable for its own invoices: name a clearing
account as ``receivable``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.errors import InvalidRequest
from catalog.grammar.nodes import Codec, Fields, Node
from catalog.grammar.scalars import CURRENCY, TEXT
from outbound.documents.base import Document
from outbound.postings import ACCOUNTS, Accounts, postings, stream_of
from outbound.streams import Batch
from rating.frames import AMOUNT

COLUMNS = pl.Schema(
    {
        "*Narration": pl.String(),
        "*Date": pl.String(),
        "Description": pl.String(),
        "*AccountCode": pl.String(),
        "*TaxRate": pl.String(),
        "*Amount": AMOUNT,
        "currency": pl.String(),
    }
)
ROWS_MAX = 300
BATCH_MAX = 50


class XeroRefuses(InvalidRequest):
    """Xero would not take the file: another currency, or more rows than it reads."""

    code = "erp_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``accounts`` as of a journal, Xero's own ``currency``, and the name of its tax rate."""

    accounts: Accounts
    currency: str
    tax_rate: str


def _read(node: Node) -> Options:
    fields = Fields(node)
    accounts = {"accounts": fields.has("accounts") and node.value["accounts"]}  # type: ignore[index]
    found = Options(
        accounts=ACCOUNTS.read(Node(accounts, node.pointer, node.problems)),
        currency=fields.need("currency", CURRENCY),
        tax_rate=fields.get("tax_rate", TEXT) or "Tax Exempt",
    )
    fields.settle()
    return found


def rows(batch: Batch, options: Any) -> pl.DataFrame:
    """Postings as Xero reads them."""
    found = postings(batch, options.accounts)
    others = sorted(set(found["currency"]) - {options.currency})
    if others:
        raise XeroRefuses(f"Xero takes {options.currency} only: filter {', '.join(others)} out")
    if found.height > ROWS_MAX:
        raise XeroRefuses(f"{found.height} rows are over Xero's {ROWS_MAX}: make 'batch' smaller")
    text = pl.concat_str(["customer", "product", "kind"], separator=" ", ignore_nulls=True)
    columns = {
        "*Narration": pl.coalesce("number", "entry"),
        "*Date": pl.col("date").dt.strftime("%d/%m/%Y"),
        "Description": text,
        "*AccountCode": pl.col("account"),
        "*TaxRate": pl.lit(options.tax_rate),
        "*Amount": pl.col("debit") - pl.col("credit"),
        "currency": pl.col("currency"),
    }
    return found.select(each.cast(COLUMNS[name]).alias(name) for name, each in columns.items())


DOCUMENT = Document(
    name="xero",
    columns=COLUMNS,
    rows=rows,
    stream=lambda options: stream_of(options.accounts),
    options=Codec(_read, lambda _: {}),
    batch_max=BATCH_MAX,
)
