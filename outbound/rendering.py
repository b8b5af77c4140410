"""From a batch and a destination to the bytes that are handed over."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import polars as pl

from catalog.money import minor_units
from outbound.adapters import FORMATS
from outbound.cells import as_safe_csv
from outbound.destinations import Choice, Column, Destination, Filter
from outbound.formats.base import Envelope, Table
from outbound.grammar import document_of
from outbound.streams import Batch, Stream
from rating.frames import AMOUNT
from rating.rendering import instant_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What one delivery carries.

    ``checksum`` is the SHA-256 (hex) of the rows as CSV, whatever the format: a new release of a
    library may write the same rows as other Parquet bytes.
    """

    content: bytes
    rows: int
    checksum: str
    suffix: str
    media_type: str


def stream_of(destination: Destination) -> Stream:
    """What a destination's positions count."""
    document, options = document_of(destination)
    return document.stream(options)


def render(destination: Destination, batch: Batch, envelope: Envelope) -> Rendered:
    """The bytes of a batch for a destination: the same ones every time."""
    document, options = document_of(destination)
    kept = filtered(batch, destination.filter)
    typed = document.rows(kept, options)
    chosen = destination.columns or tuple(Column(name=n, source=n) for n in document.columns)
    table = Table(
        typed=mapped(typed, chosen), text=mapped(as_text(typed), chosen), envelope=envelope
    )
    form = FORMATS[destination.format]
    checked = as_safe_csv(table.text, numbers=table.numbers)
    return Rendered(
        content=form.render(table),
        rows=typed.height,
        checksum=hashlib.sha256(checked).hexdigest(),
        suffix=form.suffix,
        media_type=form.media_type,
    )


def filtered(batch: Batch, wanted: Filter) -> Batch:
    """The batch with only the lines that pass; a document without any is still a position."""
    condition = pl.lit(value=True)
    for column, choice in (
        ("product", wanted.products),
        ("entity", wanted.entities),
        ("currency", wanted.currencies),
        ("kind", wanted.kinds),
        ("customer", wanted.customers),
    ):
        if choice is not None:
            condition &= _passes(column, choice)
    return Batch(
        stream=batch.stream,
        after=batch.after,
        upto=batch.upto,
        lines=batch.lines.filter(condition),
        documents=batch.documents,
    )


def _passes(column: str, choice: Choice) -> pl.Expr:
    found = pl.col(column).is_in(list(choice.values)).fill_null(value=False)
    return ~found if choice.excluded else found


def mapped(rows: pl.DataFrame, columns: tuple[Column, ...]) -> pl.DataFrame:
    """``rows`` with the columns asked for, in that order and by those names."""
    return rows.select(
        pl.col(column.source).alias(column.name)
        if column.source is not None
        else pl.lit(column.value, pl.String).alias(column.name)
        for column in columns
    )


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Every column as text; nulls stay null.

    Amounts have their currency's digits, other decimals no trailing zeros; instants are RFC 3339
    UTC, days ISO 8601.
    """
    digits = {code: minor_units(code) for code in _currencies(rows)}
    return rows.select(_text(name, dtype, digits) for name, dtype in rows.schema.items())


def _currencies(rows: pl.DataFrame) -> list[str]:
    return sorted(rows["currency"].unique().to_list()) if "currency" in rows.columns else []


def _text(name: str, dtype: pl.DataType, digits: dict[str, int]) -> pl.Expr:
    column = pl.col(name)
    if dtype == AMOUNT:
        found = pl.lit(None, pl.String)
        for currency, count in digits.items():
            scaled = column.cast(pl.Decimal(38, count)).cast(pl.String)
            found = pl.when(pl.col("currency") == currency).then(scaled).otherwise(found)
        return found.alias(name)
    if isinstance(dtype, pl.Datetime):
        return instant_text(name)
    if isinstance(dtype, pl.Decimal) and dtype.scale:
        return column.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".").alias(name)
    return column.cast(pl.String)
