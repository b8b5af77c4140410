"""Closed lines as rows and back: the CSV row is what was closed, the other columns find it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl

from invoicing.closed import CLOSED, DOCUMENTS
from rating.frames import LINES

_TEXT = dict.fromkeys(LINES, pl.String())
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
"""Columns of CLOSED that are kept beside the row, in its order."""


def parsed_rows(rows: Sequence[str]) -> pl.DataFrame:
    """LINES of their CSV rows (each with its line end), exactly as they were written."""
    if not rows:
        return pl.DataFrame(schema=LINES)
    text = pl.read_csv(
        io.BytesIO("".join(rows).encode()),
        has_header=False,
        new_columns=list(LINES),
        schema_overrides=list(_TEXT.values()),
    )
    moments = [pl.col(name).str.to_datetime(_FORMAT, time_unit="us") for name in _MOMENTS]
    typed = text.with_columns(m.dt.replace_time_zone("UTC") for m in moments)
    return typed.select(pl.col(name).cast(dtype) for name, dtype in LINES.items())


def closed_frame(rows: Sequence[Any]) -> pl.DataFrame:
    """CLOSED of rows (row, *BESIDE) as they come from SQL."""
    lines = parsed_rows([row[0] for row in rows])
    beside = pl.DataFrame(
        [tuple(row)[1:] for row in rows],
        schema={name: _stored(CLOSED[name]) for name in BESIDE},
        orient="row",
    )
    frame = pl.concat([lines, beside], how="horizontal")
    return frame.select(_typed(name, dtype) for name, dtype in CLOSED.items())


def documents_frame(rows: Sequence[Any]) -> pl.DataFrame:
    """DOCUMENTS of rows with its columns as they come from SQL."""
    stored = {name: _stored(dtype) for name, dtype in DOCUMENTS.items()}
    frame = pl.DataFrame([tuple(row) for row in rows], schema=stored, orient="row")
    return frame.select(_typed(name, dtype) for name, dtype in DOCUMENTS.items())


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
