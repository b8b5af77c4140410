"""The lines of issued invoices and credit notes, with their tax: one row a line."""

from __future__ import annotations

import polars as pl

from outbound.documents.base import Document
from outbound.streams import BILLED, Batch, Stream

NAMES = (
    "number",
    "document_id",
    "document_kind",
    "document_date",
    "credits",
    "entity",
    "customer",
    "contract",
    "line_id",
    "product",
    "meter",
    "dimensions",
    "kind",
    "timing",
    "period_start",
    "period_end",
    "accounting_date",
    "currency",
    "quantity",
    "net",
    "tax",
    "gross",
    "adjusts",
    "cause",
)
COLUMNS = pl.Schema({name: BILLED[name] for name in NAMES})


def rows(batch: Batch, _: object) -> pl.DataFrame:
    """The lines, document by document."""
    return batch.lines.select(COLUMNS.names())


DOCUMENT = Document(
    name="invoice_lines", columns=COLUMNS, rows=rows, stream=lambda _: Stream.DOCUMENTS
)
