"""CELLS: the numbers that probes came to, before they are put together as lines."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl

CELLS = pl.Schema(
    {
        "probe": pl.Int64(),
        "group": pl.String(),
        "row": pl.Int64(),
        "bucket": pl.Int64(),
        "quantity": pl.Decimal(38, 9),
        "divisor": pl.Int64(),
        "event_count": pl.Int64(),
        "rest": pl.Int64(),
    }
)
"""One row per (probe, group, row, bucket): the exact number is that of :func:`exact`.

``row`` is the row of a matrix, or a band of events; ``bucket`` the start of a window in µs; both
are 0 where the probe has none.
"""


def something() -> pl.Expr:
    """Whether the number is not 0."""
    return (pl.col("quantity") != 0) | pl.col("rest").is_not_null()


def exact(quantity: Decimal, divisor: int, rest: int | None) -> Fraction:
    """The number that three columns hold: ``quantity`` / ``divisor``.

    With a ``rest`` (a time-weighted sum: it may have more digits than one column) it is
    ``quantity``, and ``rest`` / ``divisor`` of a billionth more.
    """
    if rest is None:
        return Fraction(quantity) / divisor
    return Fraction(quantity) + Fraction(rest, divisor * 10**9)
