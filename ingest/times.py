"""RFC 3339 to microseconds: whole columns of the usual shapes at once, anything else one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from catalog.clock import SECOND_US, Micros, to_micros

EARLIEST_US = to_micros(datetime(2000, 1, 1, tzinfo=UTC))
LATEST_US = to_micros(datetime(2100, 1, 1, tzinfo=UTC))

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,60}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_FRACTION_AT = 19
_SIZES = range(len("2026-11-03T10:15:00Z"), len("2026-11-03T10:15:00.123456+01:00") + 1)
_SHAPES_MAX = 16
_PUNCTUATION = ((4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":"))


def parse_time(text: str) -> Micros | None:
    """One RFC 3339 time with its offset; None if it is none, or is finer than a microsecond.

    A leap second (``:60``) has no place in microseconds since 1970 and is none.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    fraction = match[7] or ""
    if fraction[6:].strip("0"):
        return None
    numbers = [int(match[group]) for group in range(1, 7)]
    hours, minutes = int(match[9] or 0), int(match[10] or 0)
    if hours > 23 or minutes > 59:
        return None
    try:
        moment = datetime(*numbers, int(fraction[:6].ljust(6, "0")), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    offset_us = (hours * 60 + minutes) * 60 * SECOND_US
    return Micros(to_micros(moment) - (-offset_us if match[8] == "-" else offset_us))


def parse_times(texts: Sequence[str]) -> tuple[Ints, Flags]:
    """Many times in microseconds, and which of them were read.

    What is not read here may still be a time: ask :func:`parse_time`. What is read is one.
    """
    micros = np.zeros(len(texts), np.int64)
    read = np.zeros(len(texts), np.bool_)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    for size in np.unique(sizes)[:_SHAPES_MAX].tolist():
        rows = np.flatnonzero(sizes == size)
        whole = len(rows) == len(texts)
        joined = "".join(texts if whole else [texts[row] for row in rows.tolist()])
        if size in _SIZES and joined.isascii():
            matrix = np.frombuffer(joined.encode(), np.uint8).reshape(-1, size)
            micros[rows], read[rows] = _parse_shape(matrix)
    return micros, read


def _parse_shape(text: Bytes) -> tuple[Ints, Flags]:
    """Times of one length: all ``Z``, or all with an offset (the others are not read)."""
    zulu = text[:, -1] == ord("Z")
    tail = 1 if bool(zulu.all()) else len("+00:00")
    end = text.shape[1] - tail
    if end != _FRACTION_AT and not _FRACTION_AT + 2 <= end <= _FRACTION_AT + 7:
        return np.zeros(len(text), np.int64), np.zeros(len(text), np.bool_)
    digits = text.astype(np.int64) - ord("0")
    read = np.ones(len(text), np.bool_)
    for place, mark in _PUNCTUATION:
        read &= text[:, place] == mark[0]
    year, month, day = (_number(digits, *span, read) for span in ((0, 4), (5, 7), (8, 10)))
    hour, minute, second = (_number(digits, *span, read) for span in ((11, 13), (14, 16), (17, 19)))
    micros = np.zeros(len(text), np.int64)
    if end > _FRACTION_AT:
        read &= text[:, _FRACTION_AT] == ord(".")
        scale = 10 ** (_FRACTION_AT + 7 - end)
        micros = _number(digits, _FRACTION_AT + 1, end, read) * scale
    read &= (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    read &= (day >= 1) & (day <= _days_in(year, month))
    seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    if tail > 1:
        seconds -= _offset(text[:, end:], digits[:, end:], read)
    return seconds * SECOND_US + micros, read


def _number(digits: Ints, start: int, end: int, read: Flags) -> Ints:
    number: Ints = np.zeros(len(digits), np.int64)
    for place in range(start, end):
        digit = digits[:, place]
        read &= (digit >= 0) & (digit <= 9)
        number *= 10
        number += digit
    return number


def _offset(text: Bytes, digits: Ints, read: Flags) -> Ints:
    sign, behind = text[:, 0], text[:, 3]
    read &= ((sign == ord("+")) | (sign == ord("-"))) & (behind == ord(":"))
    hours, minutes = _number(digits, 1, 3, read), _number(digits, 4, 6, read)
    read &= (hours <= 23) & (minutes <= 59)
    seconds: Ints = np.where(sign == ord("-"), -1, 1) * (hours * 60 + minutes) * 60
    return seconds


def _days_in(year: Ints, month: Ints) -> Ints:
    usual = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days: Ints = usual[month.clip(0, 12)] + (leap & (month == 2))
    return days


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970-01-01, in a calendar whose years begin in March (Hinnant's algorithm)."""
    year = year - (month <= 2)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    days: Ints = era * 146_097 + day_of_era - 719_468
    return days
