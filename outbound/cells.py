"""Cells of a CSV that a spreadsheet opens: text that would be run as a formula is defused.

Only text: a number column keeps its numbers, so a credit of -5.00 stays one. An apostrophe is
put before the text, and another one before text that would look as if it had been: taking one
off gives back what it was.
"""

from __future__ import annotations

import io

import polars as pl

# Excel and LibreOffice start a formula at these, in their full-width forms too; a tab, a line end
# or a space before them does not always save the reader.
RISKY = r"^'*[\s\x00]*[=+\-@＝＋－＠]|^'*[\t\r\n]"
UNSAFE_NAME = r"[=+\-@＝＋－＠\t\r\n']"


def defused(column: pl.Expr) -> pl.Expr:
    """A text column whose cells are text to a spreadsheet, too. Nulls stay null."""
    return pl.when(column.str.contains(RISKY)).then(pl.lit("'") + column).otherwise(column)


def armed(column: pl.Expr) -> pl.Expr:
    """The inverse of :func:`defused`."""
    rest = column.str.strip_prefix("'")
    return pl.when((rest != column) & rest.str.contains(RISKY)).then(rest).otherwise(column)


def as_safe_csv(rows: pl.DataFrame, *, numbers: frozenset[str] = frozenset()) -> bytes:
    """Rows of text as CSV: a header line, LF line ends, null as an empty cell.

    Args:
        rows: every column text.
        numbers: the columns that hold numbers, which are left as they are.
    """
    buffer = io.BytesIO()
    rows.select(
        pl.col(name) if name in numbers else defused(pl.col(name)).alias(name)
        for name in rows.columns
    ).write_csv(buffer)
    return buffer.getvalue()
