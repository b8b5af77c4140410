"""Moments as text: ``2026-11-01`` (a local midnight) or ``2026-11-01T10:00:00Z``."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time

from catalog.errors import InvalidRequest
from catalog.pricebooks import Moment

YEAR_MIN, YEAR_MAX = 1900, 2200

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})")


class InvalidMoment(InvalidRequest):
    """Neither a date nor a time with its offset."""

    code = "invalid_time"


def parse_moment(text: str) -> Moment:
    """Read a date, or an RFC 3339 time (with offset, at most microseconds; kept as UTC).

    Raises:
        InvalidMoment: anything else, or a year outside 1900 to 2200.
    """
    moment = _read(text)
    if moment is None or not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise InvalidMoment(
            f"{text[:40]!r} is neither a date (2026-11-01) nor a time with offset "
            f"(2026-11-01T00:00:00Z) in {YEAR_MIN} to {YEAR_MAX}"
        )
    return moment


def _read(text: str) -> Moment | None:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None


def moment_text(moment: Moment) -> str:
    """``moment`` as :func:`parse_moment` reads it; times in UTC with ``Z``."""
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return moment.isoformat()


def in_utc(moment: Moment) -> datetime:
    """``moment`` as an instant, dates read as midnights in UTC: to compare two as written."""
    if isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time(), tzinfo=UTC)
