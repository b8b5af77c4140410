"""Closed lines as rows and back: the CSV row is what was closed, the other columns find it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl

from invoicing.closed import CLOSED, DOCUMENTS
from rating.frames import LINES

_MOMENTS = ("period_start", "period_end")
_FORMAT = "%Y-%m-%dT%H:%M:%S%.fZ"
BESIDE = (
    "billing_start",
    "billing_end",
    "accounting_date",
    "sequence",
    "document",
    "entity",
    "closed_by",
    "recorded_at",
    "as_of",
    "engine",
    "checksum",
    "invoice",
    "invoice_number",
)
"""Columns of CLOSED that are kept beside the row. None holds what CSV would quote."""


def closed_frame(rows: Sequence[str]) -> pl.DataFrame:
    """CLOSED of CSV rows: the columns of BESIDE, then the row as it was closed."""
    if not rows:
        return CLOSED.to_frame()
    text = pl.read_csv(
        io.BytesIO("".join(rows).encode()),
        has_header=False,
        new_columns=[*BESIDE, *LINES],
        schema_overrides=[_read(name) for name in (*BESIDE, *LINES)],
    )
    return text.select(_parsed(name, dtype) for name, dtype in CLOSED.items())


def _read(name: str) -> pl.DataType:
    return pl.String() if name in LINES else _stored(CLOSED[name])


def _parsed(name: str, dtype: pl.DataType) -> pl.Expr:
    if name in _MOMENTS:
        moment = pl.col(name).str.to_datetime(_FORMAT, time_unit="us")
        return moment.dt.replace_time_zone("UTC")
    if name == "entity":  # null and the only one look alike in CSV, and it is never null
        return pl.col(name).fill_null("")
    return _typed(name, dtype)


def documents_frame(rows: Sequence[Any]) -> pl.DataFrame:
    """DOCUMENTS of rows with its columns as they come from SQL."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(DOCUMENTS)
    stored = [
        pl.Series(name, values, dtype=_stored(dtype))
        for (name, dtype), values in zip(DOCUMENTS.items(), columns, strict=True)
    ]
    return typed_documents(pl.DataFrame(stored))


def typed_documents(rows: pl.DataFrame) -> pl.DataFrame:
    """DOCUMENTS of its columns as they are kept in SQL."""
    return rows.select(_typed(name, dtype) for name, dtype in DOCUMENTS.items())


def _stored(dtype: pl.DataType) -> pl.DataType:
    """How a column is kept in SQL: instants as microseconds, days as text."""
    if isinstance(dtype, pl.Datetime):
        return pl.Int64()
    return pl.String() if isinstance(dtype, pl.Date) else dtype


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d")
    return column.cast(dtype)


def day_text(day: date) -> str:
    """A day as it is kept."""
    return day.isoformat()
