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
        "valued": pl.Int64(),
        "low": QUANTITY,
        "high": QUANTITY,
        "taken": pl.Int64(),
    }
)
"""One row per (subject, piece of a day, dimensions), in that order: the exact sum of values (nulls
are 0), the number of facts and of those with a value, what was taken back subtracted; the smallest
and largest value (null for none). ``taken`` facts of earlier records were taken back: where there
are any, the smallest and the largest say nothing. ``[start, end)`` bounds event time.

Values are below 10^17 and there are not 10^12 of them, so that a sum cannot wrap (at 1.7e29).
"""

KEYS = ("subject", "start", "end", "dimensions")
PLACE = ("subject", "time", "dimensions")


def signed(facts: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    """What each of ``facts`` adds and each of ``taken`` takes back."""
    value, none = pl.col("value"), pl.lit(None, QUANTITY)
    has = value.is_not_null().cast(pl.Int64)
    one, zero = pl.lit(1, pl.Int64), pl.lit(0, pl.Int64)
    added = {"sum": value.fill_null(0), "count": one, "valued": has}
    back = {name: -number for name, number in added.items()}
    return pl.concat(
        [
            facts.select(*PLACE, **added, low=value, high=value, taken=zero),
            taken.select(*PLACE, **back, low=none, high=none, taken=one),
        ]
    )


def rolled(facts: pl.DataFrame, *, taken: pl.DataFrame, cuts: Cuts) -> pl.DataFrame:
    """CELLS of ``facts`` less ``taken``."""
    return added([cuts.pieces(signed(facts, taken))])


def added(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """CELLS of several frames as one; what came to nothing is left out."""
    whole = pl.concat([part.select(list(CELLS)).cast(CELLS) for part in parts])
    numbers = ("sum", "count", "valued", "taken")
    sums = whole.group_by(KEYS).agg(
        pl.col(numbers).sum(), pl.col("low").min(), pl.col("high").max()
    )
    something = pl.any_horizontal(pl.col(numbers) != 0)
    return sums.filter(something).sort(KEYS).select(list(CELLS))
