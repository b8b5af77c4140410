"""Durations as text: windows and buckets (``5m``, ``1h``, ``1d``), hours of the day."""

from __future__ import annotations

import re

from catalog.errors import InvalidRequest

DAY_MINUTES = 24 * 60

_WINDOW = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_HOURS = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_UNIT_MINUTES = {"m": 1, "h": 60, "d": DAY_MINUTES}


class InvalidDuration(InvalidRequest):
    """A text that is no window, or no stretch of the day."""

    code = "invalid_duration"


def window_minutes(text: str) -> int:
    """The length of a window in minutes: ``5m`` is 5, ``1h`` 60, ``1d`` 1440.

    A window divides the day evenly, so that days are made of whole windows.

    Raises:
        InvalidDuration: anything else.
    """
    found = _WINDOW.fullmatch(text)
    minutes = int(found[1]) * _UNIT_MINUTES[found[2]] if found else 0
    if not minutes or DAY_MINUTES % minutes:
        raise InvalidDuration(
            f"{text[:20]!r} is not a window: minutes, hours or a day that divide a day evenly "
            "(5m, 1h, 1d)"
        )
    return minutes


def window_text(minutes: int) -> str:
    """The shortest text of a window: 60 is ``1h``."""
    unit = next(u for u in ("d", "h", "m") if minutes % _UNIT_MINUTES[u] == 0)
    return f"{minutes // _UNIT_MINUTES[unit]}{unit}"


def hours_minutes(text: str) -> tuple[int, int]:
    """The minutes of the day ``[from, to)`` of ``"22:00-06:00"``; ``to < from`` passes midnight.

    ``24:00`` may end a stretch.

    Raises:
        InvalidDuration: no such times, or a stretch of no length.
    """
    found = _HOURS.fullmatch(text)
    if found:
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        since, until = from_hour * 60 + from_minute, to_hour * 60 + to_minute
        valid = max(from_minute, to_minute) < 60 and since < DAY_MINUTES and until <= DAY_MINUTES
        if valid and since != until:
            return since, until
    raise InvalidDuration(f"{text[:20]!r} is not a stretch of the day (00:00-06:00)")
