"""Windows, hours of the day, and moments as text."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from catalog.durations import InvalidDuration, hours_minutes, window_minutes, window_text
from catalog.moments import InvalidMoment, moment_text, parse_moment


@pytest.mark.parametrize(
    ("text", "minutes", "canonical"),
    [("1m", 1, "1m"), ("5m", 5, "5m"), ("60m", 60, "1h"), ("8h", 480, "8h"), ("24h", 1440, "1d")],
)
def test_a_window_has_one_canonical_text(text: str, minutes: int, canonical: str):
    """However it is spelled, a window is its minutes and shown in the largest unit."""
    assert window_minutes(text) == minutes
    assert window_text(minutes) == canonical


@pytest.mark.parametrize("text", ["7m", "5h", "2d", "0m", "1.5h", "1w", "1s", "h", "", "-1h"])
def test_a_window_divides_the_day(text: str):
    """What would leave a part of the day over is refused."""
    with pytest.raises(InvalidDuration):
        window_minutes(text)


def test_hours_may_pass_midnight_and_end_at_24():
    """Stretches of the day are minutes; the end may be before the start."""
    assert hours_minutes("00:00-06:00") == (0, 360)
    assert hours_minutes("22:00-24:00") == (1320, 1440)
    assert hours_minutes("22:00-06:30") == (1320, 390)


@pytest.mark.parametrize("text", ["6-8", "24:00-01:00", "10:60-11:00", "10:00-10:00", "1:00-2:00"])
def test_hours_that_are_none_are_refused(text: str):
    """Times must exist, and a stretch has a length."""
    with pytest.raises(InvalidDuration):
        hours_minutes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", date(2026, 11, 1)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01t10:00:00.5z", datetime(2026, 11, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-01 10:00:00+05:45", datetime(2026, 11, 1, 4, 15, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_or_an_instant(text: str, expected: date):
    """Dates stay dates; times are kept in UTC, and both read back from their text."""
    moment = parse_moment(text)
    assert (moment, type(moment)) == (expected, type(expected))
    assert parse_moment(moment_text(moment)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01T10:00:00",
        "2026-02-30",
        "2026-11-01T25:00:00Z",
        "2026-11-01T10:00:00.1234567Z",
        "2026-11-01T10:00:60Z",
        "20261101",
        "1899-12-31",
        "2201-01-01",
        "0001-01-01T00:00:00+14:00",
        "today",
        "",
    ],
)
def test_what_is_no_moment_is_refused(text: str):
    """Local times, impossible days and leap seconds are refused, not guessed."""
    with pytest.raises(InvalidMoment):
        parse_moment(text)
