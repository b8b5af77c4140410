"""LINES as text: the one form finance sees, and the checksum over it.

The CSV form is canonical: amounts with the currency's minor digits, quantities without trailing
zeros, instants in RFC 3339 UTC. Text cells cannot start a spreadsheet formula: every id starts with
a letter or digit, and dimensions with a brace.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import polars as pl

from catalog.money import minor_units

QUANTITY_ZEROS = "0"
PIECE_ROWS = 16_384
"""Lines of a piece: some 5 MB of text."""


def instant_text(name: str) -> pl.Expr:
    """A column of instants in RFC 3339 UTC, with a fraction only where there is one."""
    column = pl.col(name)
    whole = column.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    exact = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return pl.when(column.dt.microsecond() == 0).then(whole).otherwise(exact).alias(name)


def _amount(currencies: list[str]) -> pl.Expr:
    """The amount with as many decimals as its currency has minor digits."""
    text = pl.lit(None, dtype=pl.String)
    for currency in currencies:
        scaled = pl.col("amount").cast(pl.Decimal(38, minor_units(currency))).cast(pl.String)
        text = pl.when(pl.col("currency") == currency).then(scaled).otherwise(text)
    return text.alias("amount")


def _quantity() -> pl.Expr:
    text = pl.col("quantity").cast(pl.String)
    return text.str.strip_chars_end(QUANTITY_ZEROS).str.strip_chars_end(".").alias("quantity")


def as_text(lines: pl.DataFrame) -> pl.DataFrame:
    """Every column of LINES as the text finance reads; nulls stay null. Same rows, same order."""
    currencies = sorted(lines["currency"].unique().to_list())
    return lines.with_columns(
        instant_text("period_start"), instant_text("period_end"), _quantity(), _amount(currencies)
    ).with_columns(pl.all().cast(pl.String))


def csv_chunks(lines: pl.DataFrame) -> Iterator[bytes]:
    """LINES as CSV, in pieces: a header line, LF line ends and null as an empty cell."""
    yield _csv(lines.clear(), header=True)
    for part in lines.iter_slices(PIECE_ROWS):
        yield _csv(part, header=False)


def _csv(lines: pl.DataFrame, *, header: bool) -> bytes:
    buffer = io.BytesIO()
    as_text(lines).write_csv(buffer, include_header=header)
    return buffer.getvalue()


def as_csv(lines: pl.DataFrame) -> bytes:
    """All of :func:`csv_chunks`, for a handful of lines."""
    return b"".join(csv_chunks(lines))


def checksum(lines: pl.DataFrame) -> str:
    """SHA-256 (hex) of LINES as CSV: equal totals have equal checksums, in every format."""
    digest = hashlib.sha256()
    for part in csv_chunks(lines):
        digest.update(part)
    return digest.hexdigest()
