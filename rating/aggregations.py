"""How facts become a quantity, per aggregation.

Sums and counts add up, so the store adds them where the facts are. The others are made here from
the facts of a line's group.
"""

from __future__ import annotations

import polars as pl

from catalog.meters import Aggregation, Meter

ADDITIVE = (Aggregation.SUM, Aggregation.COUNT)
"""Aggregations that can be added up from partial results; of nothing they are 0."""


_VALUE = pl.col("value")
_ORDER = ("time", "received_at", "node", "seq")
_ONE = pl.lit(1, pl.Int64)

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


def unsupported_meter(meter: Meter) -> list[str]:
    """What of ``meter`` cannot be priced yet, by name; empty where all of it can."""
    names = []
    if meter.aggregation not in ADDITIVE and meter.aggregation not in FROM_FACTS:
        names.append(f"aggregation {meter.aggregation}")
    if meter.window is not None:
        names.append("window")
    return names
