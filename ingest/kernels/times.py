"""RFC 3339 times of the usual shapes, in microseconds since 1970."""

from __future__ import annotations

import numpy as np

from ingest.kernels.memory import compiled, inlined, load_u8

NO_TIME = np.int64(-(2**63))
"""Not a time of a usual shape: a patient parser must look."""

_SECOND_US = 1_000_000
_ZERO, _DASH, _PLUS, _DOT, _COLON, _T, _Z = 48, 45, 43, 46, 58, 84, 90


@inlined
def _two(at):
    """Two digits as a number, negative if they are none."""
    tens, ones = np.int64(load_u8(at)) - _ZERO, np.int64(load_u8(at + 1)) - _ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return np.int64(-1)
    return tens * 10 + ones


@compiled
def _day(at):
    """Days since 1970 of the date at ``at`` (Hinnant's algorithm), NO_TIME if there is none."""
    century, years = _two(at), _two(at + 2)
    month, day = _two(at + 5), _two(at + 8)
    if century < 0 or years < 0 or month < 1 or month > 12 or day < 1:
        return NO_TIME
    year = century * 100 + years
    days = 30 if month in (4, 6, 9, 11) else 31
    if month == 2:
        days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > days:
        return NO_TIME
    year -= 1 if month <= 2 else 0
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return (
        era * 146_097
        + year_of_era * 365
        + year_of_era // 4
        - year_of_era // 100
        + (day_of_year - 719_468)
    )


@compiled
def _offset(at, end):
    """Seconds east of the zone that fills ``[at, end)``, NO_TIME if it is none."""
    sign = load_u8(at)
    if sign == _Z and at + 1 == end:
        return np.int64(0)
    if (sign != _PLUS and sign != _DASH) or at + 6 != end or load_u8(at + 3) != _COLON:
        return NO_TIME
    hours, minutes = _two(at + 1), _two(at + 4)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return NO_TIME
    seconds = (hours * 60 + minutes) * 60
    return -seconds if sign == _DASH else seconds


@compiled
def time_us(at, end):
    """The time that fills ``[at, end)``: ``YYYY-MM-DDThh:mm:ss[.f]`` and ``Z`` or ``±hh:mm``."""
    if end - at < 20 or end - at > 32 or load_u8(at + 4) != _DASH or load_u8(at + 7) != _DASH:
        return NO_TIME
    if load_u8(at + 10) != _T or load_u8(at + 13) != _COLON or load_u8(at + 16) != _COLON:
        return NO_TIME
    day, hour, minute, second = _day(at), _two(at + 11), _two(at + 14), _two(at + 17)
    if day == NO_TIME or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return NO_TIME
    if second < 0 or second > 59:
        return NO_TIME
    at += 19
    micros, scale = np.int64(0), np.int64(100_000)
    if load_u8(at) == _DOT:
        at += 1
        if not 0 <= load_u8(at) - _ZERO <= 9:
            return NO_TIME
        while 0 <= load_u8(at) - _ZERO <= 9:
            if scale == 0:
                return NO_TIME
            micros += scale * (load_u8(at) - _ZERO)
            scale //= 10
            at += 1
    offset = _offset(at, end)
    if offset == NO_TIME:
        return NO_TIME
    return ((day * 24 + hour) * 3600 + minute * 60 + second - offset) * _SECOND_US + micros
