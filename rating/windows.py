"""Windows and hours of the clock on the wall, for facts as columns."""

from __future__ import annotations

from functools import reduce
from operator import or_
from zoneinfo import ZoneInfo

import polars as pl

from catalog.clock import Micros
from catalog.windows import edges

Hours = tuple[tuple[int, int], ...]
"""Stretches of the day as minutes ``[from, to)``; ``to < from`` passes midnight."""


def window_starts(times: pl.Series, *, minutes: int, timezone: str) -> pl.Series:
    """The start (µs) of the local window of ``minutes`` that each of ``times`` lies in.

    Raises:
        TooManyWindows: the times are over a million windows apart.
    """
    if times.is_empty():
        return pl.Series(times.name, [], dtype=pl.Int64)
    instants = times.to_physical()
    first, last = instants.min(), instants.max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    found = edges(minutes, since=Micros(first), until=Micros(last + 1), timezone=ZoneInfo(timezone))
    starts = pl.Series(found, dtype=pl.Int64)
    return starts.gather(starts.search_sorted(instants, side="right").cast(pl.Int64) - 1)


def within_hours(hours: Hours, *, timezone: str) -> pl.Expr:
    """Whether the local time of ``time`` lies in one of the stretches."""
    local = pl.col("time").dt.convert_time_zone(timezone)
    minute = local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()
    inside = (
        (minute >= since) & (minute < until)
        if since < until
        else (minute >= since) | (minute < until)
        for since, until in hours
    )
    return reduce(or_, inside)
