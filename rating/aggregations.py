"""How facts become a quantity, per aggregation.

Sums and counts add up, so the store adds them where the facts are. The others are made here from
the facts of a line's group; a time-weighted sum from what there was before too, see
:mod:`rating.weighted`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.meters import Aggregation, Meter

ADDITIVE = (Aggregation.SUM, Aggregation.COUNT)
"""Aggregations that can be added up from partial results; of nothing they are 0."""

STORED = (*ADDITIVE, Aggregation.MIN, Aggregation.MAX, Aggregation.AVERAGE)
"""Aggregations that the store can make where the facts are."""

ACCUMULATING = (*ADDITIVE, Aggregation.MAX, Aggregation.UNIQUE_COUNT)
"""Aggregations that have a meaning over a span that several lines share."""

_VALUE = pl.col("value")
_ONE = pl.lit(1, pl.Int64)

_COUNT, _VALUED = pl.col("count").sum(), pl.col("valued").sum()

COMBINED: dict[Aggregation, tuple[pl.Expr, pl.Expr, pl.Expr]] = {
    Aggregation.SUM: (pl.col("sum").sum(), _ONE, _COUNT),
    Aggregation.COUNT: (_COUNT.cast(pl.Decimal(38, 9)), _ONE, _COUNT),
    Aggregation.MIN: (pl.col("low").min(), _ONE, _VALUED),
    Aggregation.MAX: (pl.col("high").max(), _ONE, _VALUED),
    Aggregation.AVERAGE: (pl.col("sum").sum(), _VALUED, _VALUED),
}
"""(quantity, divisor, number of events) of one group of what the store made of its parts."""

_FACTS, _VALUES = pl.col("count"), pl.col("valued")

ALONE: dict[Aggregation, tuple[pl.Expr, pl.Expr, pl.Expr]] = {
    Aggregation.SUM: (pl.col("sum"), _ONE, _FACTS),
    Aggregation.COUNT: (_FACTS.cast(pl.Decimal(38, 9)), _ONE, _FACTS),
    Aggregation.MIN: (pl.col("low"), _ONE, _VALUES),
    Aggregation.MAX: (pl.col("high"), _ONE, _VALUES),
    Aggregation.AVERAGE: (pl.col("sum"), _VALUES, _VALUES),
}
"""The same of a group that the store made as one: nothing has to be put together."""

FROM_FACTS: dict[Aggregation, tuple[pl.Expr, pl.Expr]] = {
    Aggregation.MIN: (_VALUE.min(), _ONE),
    Aggregation.MAX: (_VALUE.max(), _ONE),
    Aggregation.AVERAGE: (_VALUE.sum(), _VALUE.count().cast(pl.Int64)),
    Aggregation.LATEST: (_VALUE.sort_by("time", "received_at", "node", "seq").last(), _ONE),
    Aggregation.UNIQUE_COUNT: (pl.col("text").n_unique(), _ONE),
}
"""(quantity, divisor) of one group of facts with a value.

``text`` is canonical, so equal JSON values are equal text. The sum of an average cannot
wrap: values are below 10^17, and there are not 10^12 of them.
"""


def measured(aggregation: Aggregation, percentile: Decimal | None) -> tuple[pl.Expr, pl.Expr]:
    """(quantity, divisor) of one group of facts, for every aggregation that is made from them."""
    match aggregation:
        case Aggregation.COUNT:
            return pl.len().cast(pl.Int64), _ONE
        case Aggregation.SUM:
            return _VALUE.sum(), _ONE
        case Aggregation.PERCENTILE:
            return percentile_of(percentile or Decimal(100)), _ONE
        case _:
            return FROM_FACTS[aggregation]


def percentile_of(percentile: Decimal) -> pl.Expr:
    """The ⌈p·n/100⌉-th smallest value, p exact."""
    share = Fraction(percentile) / 100
    rank = (pl.len().cast(pl.Int64) * share.numerator + share.denominator - 1) // share.denominator
    return _VALUE.sort().get(rank - 1)


def unsupported_meter(meter: Meter) -> list[str]:
    """What of ``meter`` cannot be priced yet, by name; empty where all of it can."""
    weighted = meter.aggregation is Aggregation.WEIGHTED_SUM
    return ["window of a weighted_sum"] if weighted and meter.window is not None else []
