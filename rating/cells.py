"""CELLS: the numbers that probes came to, before they are put together as lines."""

from __future__ import annotations

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
    }
)
"""One row per (probe, group, row, bucket): the exact number is ``quantity`` / ``divisor``.

``row`` is the row of a matrix, or a band of events; ``bucket`` the start of a window in µs; both
are 0 where the probe has none.
"""
