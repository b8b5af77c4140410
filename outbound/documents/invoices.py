"""Issued invoices and credit notes: one row a document, summed over the lines that are taken."""

from __future__ import annotations

import polars as pl

from outbound.documents.base import Document
from outbound.streams import BILLED, Batch, Stream

KEYS = (
    "number",
    "document_id",
    "document_kind",
    "document_date",
    "credits",
    "entity",
    "accounting_date",
    "currency",
)
SUMS = ("net", "tax", "gross")
COLUMNS = pl.Schema(
    {
        **{name: BILLED[name] for name in KEYS},
        "customer": pl.String(),
        "contract": pl.String(),
        "lines": pl.Int64(),
        **{name: BILLED[name] for name in SUMS},
    }
)


def rows(batch: Batch, _: object) -> pl.DataFrame:
    """The documents that have a line left, in order of issue."""
    found = (
        batch.lines.group_by("document_id", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in KEYS if name != "document_id"),
            pl.len().cast(pl.Int64).alias("lines"),
            *(pl.col(name).sum() for name in SUMS),
        )
        .join(
            batch.documents.select("customer", "contract", document_id="id"),
            on="document_id",
            how="left",
            maintain_order="left",
        )
    )
    return found.select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())


DOCUMENT = Document(name="invoices", columns=COLUMNS, rows=rows, stream=lambda _: Stream.DOCUMENTS)
