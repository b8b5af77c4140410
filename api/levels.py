"""Levels over time: what a time-weighted meter shows as its usage.

Every value changes a level from its time on, and is carried over. What is shown for a window is the
average level in it, as :mod:`rating.weighted` prices it for a billing period.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import polars as pl

from catalog.clock import EPOCH, Micros
from catalog.errors import OutOfRange
from catalog.events import INSTANT
from catalog.windows import TooManyWindows
from rating.ports import SPANS
from rating.weighted import WRAP_LIMIT

ROWS_MAX = 1_000_000
NANOS = 10**9

STRETCHES = pl.Schema({**SPANS, "customer": pl.String(), "sign": pl.Int64()})
"""SPANS in which a level counts, each of one row: for ``customer`` (null: for nobody), added or
(``sign`` -1) taken off."""


def asked(stretches: pl.DataFrame) -> pl.DataFrame:
    """SPANS of all that was changed up to the end of each stretch."""
    return stretches.select(list(SPANS)).with_columns(start=pl.lit(EPOCH, INSTANT))


def changes(facts: pl.DataFrame, stretches: pl.DataFrame) -> pl.DataFrame:
    """``facts`` as changes of levels (``time``, ``nanos``): on, and off where a stretch ends."""
    bounds = stretches.select("span", "start", "end", "customer", "sign")
    nanos = pl.col("value").fill_null(0).to_physical() * pl.col("sign")
    counted = facts.join(bounds, on="span").with_columns(nanos=nanos)
    begun = counted.with_columns(time=pl.max_horizontal("time", "start"))
    ended = counted.with_columns(time="end", nanos=pl.col("nanos") * -1)
    return pl.concat([begun, ended])


def averages(
    changed: pl.DataFrame, keys: Sequence[str], edges: Sequence[Micros]
) -> Iterator[tuple[tuple[object, ...], int, Fraction]]:
    """(keys, window, average level) of every window from a group's first change on.

    Window i is ``[edges[i], edges[i + 1])``; what was changed before the first is held in it.

    Raises:
        OutOfRange: a sum that does not fit 128 bits.
        TooManyWindows: over a million rows.
    """
    windows = list(pairwise(edges))
    totals = _totals(changed, keys, edges)
    groups = totals.partition_by(keys, as_dict=True) if keys else {(): totals}
    if len(groups) * len(windows) > ROWS_MAX:
        raise TooManyWindows(f"over {ROWS_MAX:,} rows of {len(windows):,} windows")
    for key, rows in groups.items():
        found = {row[0]: row[1:] for row in rows.select("window", *_SUMS).iter_rows()}
        level = 0
        for window in range(min(found, default=0), len(windows)):
            start, end = windows[window]
            whole, nanos, whole_held, nanos_held = found.get(window, (0, 0, 0, 0))
            held = level * (end - start) + whole_held * NANOS + nanos_held
            yield key, window, Fraction(held, (end - start) * NANOS)
            level += whole * NANOS + nanos


_SUMS = ("whole", "nanos", "whole_held", "nanos_held")


def _totals(changed: pl.DataFrame, keys: Sequence[str], edges: Sequence[Micros]) -> pl.DataFrame:
    """By group and window: the sum of what was changed, and of that × the µs left of the window.

    Whole units and billionths apart, as 128-bit integers: exact.
    """
    ends = pl.Series(edges, dtype=pl.Int64)
    inside = changed.with_columns(
        time=pl.col("time").to_physical().clip(lower_bound=edges[0]),
    ).filter(pl.col("time") < edges[-1])
    window = ends.search_sorted(inside["time"], side="right").cast(pl.Int64) - 1
    whole = pl.col("nanos") // NANOS
    parts = inside.with_columns(
        window=window, left=(ends.gather(window + 1) - inside["time"]).cast(pl.Int128)
    ).with_columns(whole=whole, nanos=pl.col("nanos") - whole * NANOS)
    held = (pl.col(name) * pl.col("left") for name in ("whole", "nanos"))
    sums = parts.group_by(*keys, "window").agg(
        pl.col("whole", "nanos").sum(),
        *(each.sum().alias(name) for each, name in zip(held, _SUMS[2:], strict=True)),
        reach=(pl.col("whole").abs().max() + 1),
        longest=pl.col("left").max(),
        number=pl.len(),
    )
    for reach, longest, number in sums.select("reach", "longest", "number").iter_rows():
        if reach * longest * number >= WRAP_LIMIT:
            raise OutOfRange("a time-weighted sum has more digits than are kept")
    return sums
