"""What was used, as a line is priced by it: one quantity, or several pieces of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from catalog.charges import Capacity, Charge, Flat, Matrix
from catalog.clock import to_rfc3339
from rating.cells import exact
from rating.charges.events import BANDS
from rating.charges.matrix import row_text
from rating.terms import Terms

USAGE = pl.Schema(
    {
        "line": pl.Int64(),
        "dimensions": pl.String(),
        "quantity": pl.Decimal(38, 9),
        "divisor": pl.Int64(),
        "event_count": pl.Int64(),
        "rest": pl.Int64(),
    }
)
"""One row per (line, group): the exact quantity is that of :func:`rating.cells.exact` (the divisor
is 1 but for averages and time-weighted sums).

``line`` is the index of its plan. Additive meters without ``group_by`` have a row also where
nothing was used; others have none for nothing. Fixed quantities have one row, without events.
"""

PIECES = pl.Schema(
    {
        "line": pl.Int64(),
        "dimensions": pl.String(),
        "row": pl.Int64(),
        "bucket": pl.Int64(),
        "charge": pl.Int64(),
        "sign": pl.Int64(),
        "quantity": pl.Decimal(38, 9),
        "divisor": pl.Int64(),
        "rest": pl.Int64(),
    }
)
"""What the lines that are priced in pieces are made of, in no order.

A line costs the sum over its pieces of ``sign`` × what ``charge`` asks for the quantity. ``row`` is
a row of a matrix or a band of events, ``bucket`` the start (µs) of a window; 0 where there is none.
``sign`` is -1 for what was priced before, in the same span of tiers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Units that are priced together, by one charge, beside others of the line."""

    charge: Charge
    units: Fraction
    sign: int = 1
    label: str | None = None

    @property
    def fee(self) -> bool:
        """Whether it is a fee that is due or not, which no term acts on as on units."""
        return isinstance(self.charge, Flat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """USAGE of all lines, and PIECES of those that have them; ``charges`` are what those name."""

    usage: pl.DataFrame
    pieces: pl.DataFrame
    charges: tuple[Charge, ...]

    def pieces_of(self, terms: Terms, rows: pl.DataFrame) -> tuple[Piece, ...]:
        """``rows`` (PIECES of one line) as pieces, in the order they are priced in."""
        ordered = rows.sort("bucket", "row", pl.col("sign") < 0)
        return tuple(self._pieces(terms, ordered))

    def _pieces(self, terms: Terms, rows: pl.DataFrame) -> Iterator[Piece]:
        columns = ("row", "bucket", "charge", "sign", "quantity", "divisor", "rest")
        for row, bucket, charge, sign, *number in rows.select(columns).iter_rows():
            yield Piece(
                charge=self.charges[charge],
                units=exact(*number),
                sign=sign,
                label=_label(terms, row=row, bucket=bucket, sign=sign),
            )


def _label(terms: Terms, *, row: int, bucket: int, sign: int) -> str | None:
    """What a piece is, in words: its window, its row or band, and whether it is taken off."""
    charge = terms.price.charge
    words = [to_rfc3339(bucket)] if terms.price.bucket is not None else []
    if isinstance(charge, Matrix):
        words.append(row_text(charge.rows[row]))
    elif isinstance(charge, Capacity):
        words.append(f"plan {row + 1}")
    elif terms.per_event:
        words.append(BANDS[row])
    if terms.price.tiers_span_months is not None:
        words.append("up to the end" if sign > 0 else "before, already priced")
    return ", ".join(words) or None
