"""Rows of cells: facts that count and facts taken back, added up by piece of a day."""

from __future__ import annotations

import polars as pl

from catalog.events import INSTANT, QUANTITY
from rating.cuts import Cuts

CELLS = pl.Schema(
    {
        "subject": pl.String(),
        "start": INSTANT,
        "end": INSTANT,
        "dimensions": pl.String(),
        "sum": QUANTITY,
        "count": pl.Int64(),
    }
)
"""One row per (subject, piece of a day, dimensions), in that order: the exact sum of values (nulls
are 0) and the number of facts, those taken back subtracted. ``[start, end)`` bounds event time.

Values are below 10^17 and there are not 10^12 of them, so that a sum cannot wrap (at 1.7e29).
"""

KEYS = ("subject", "start", "end", "dimensions")
PLACE = ("subject", "time", "dimensions")


def signed(facts: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    """What each of ``facts`` adds and each of ``taken`` takes back."""
    value = pl.col("value").fill_null(0)
    return pl.concat(
        [
            facts.select(*PLACE, sum=value, count=pl.lit(1, pl.Int64)),
            taken.select(*PLACE, sum=-value, count=pl.lit(-1, pl.Int64)),
        ]
    )


def rolled(facts: pl.DataFrame, *, taken: pl.DataFrame, cuts: Cuts) -> pl.DataFrame:
    """CELLS of ``facts`` less ``taken``."""
    return added([cuts.pieces(signed(facts, taken))])


def added(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """CELLS of several frames as one; what came to nothing is left out."""
    whole = pl.concat([part.select(list(CELLS)).cast(CELLS) for part in parts])
    sums = whole.group_by(KEYS).agg(pl.col("sum", "count").sum())
    return sums.filter((pl.col("count") != 0) | (pl.col("sum") != 0)).sort(KEYS).select(list(CELLS))
