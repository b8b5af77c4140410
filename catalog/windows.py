"""Windows of local time: where they begin and end, daylight saving included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from catalog.clock import Micros, to_datetime, to_micros
from catalog.durations import DAY_MINUTES
from catalog.errors import InvalidRequest
from catalog.events import INSTANT

HOUR_MINUTES = 60
MINUTE_US = 60_000_000
WINDOWS_MAX = 1_000_000


class TooManyWindows(InvalidRequest):
    """The interval holds more windows than one answer may."""

    code = "too_many_windows"


def edges(minutes: int, *, since: Micros, until: Micros, timezone: ZoneInfo) -> list[Micros]:
    """The ends of the windows that ``[since, until)`` meets: window i is ``[i, i + 1)``.

    Every local day begins a window. Windows of up to an hour are as long as they say, so a day
    of 25 hours has 25 of an hour; longer ones end at the hours the clock on the wall shows.

    Raises:
        TooManyWindows: over a million.
    """
    if (until - since) // (minutes * MINUTE_US) > WINDOWS_MAX:
        raise TooManyWindows(f"over {WINDOWS_MAX:,} windows of {minutes} minutes")
    first = to_datetime(since).astimezone(timezone).date()
    found: list[Micros] = []
    for instant in _edges_from(first, minutes, timezone):
        if instant <= since:
            found.clear()
        found.append(instant)
        if instant >= until:
            return found
    raise AssertionError("days do not end")


def _edges_from(day: date, minutes: int, timezone: ZoneInfo) -> Iterator[Micros]:
    while True:
        following = day + timedelta(days=1)
        begin, end = _midnight(day, timezone), _midnight(following, timezone)
        if minutes <= HOUR_MINUTES:
            yield from map(Micros, range(begin, end, minutes * MINUTE_US))
        else:
            yield begin
            for passed in range(minutes, DAY_MINUTES, minutes):
                wall = datetime.combine(day, time(passed // 60, passed % 60), tzinfo=timezone)
                yield to_micros(wall)
        day = following


def _midnight(day: date, timezone: ZoneInfo) -> Micros:
    return to_micros(datetime.combine(day, time(), tzinfo=timezone))


def assign(times: pl.Series, ends: list[Micros]) -> pl.DataFrame:
    """``window_start`` and ``window_end`` of each of ``times``, which lie within ``ends``."""
    starts = pl.Series(ends, dtype=pl.Int64)
    places = starts.search_sorted(times.to_physical(), side="right").cast(pl.Int64) - 1
    return pl.DataFrame(
        {
            "window_start": starts.gather(places).cast(INSTANT),
            "window_end": starts.gather(places + 1).cast(INSTANT),
        }
    )
