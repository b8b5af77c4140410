"""Instants as callers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from api.models.instants import Instant

READER: TypeAdapter[datetime] = TypeAdapter(Instant)


def test_an_instant_is_read_into_utc() -> None:
    """Any offset and case RFC 3339 allows; the same instant, so that it can be shown."""
    read = READER.validate_python("2026-01-31t01:00:00.120+01:00")
    assert read == datetime(2026, 1, 31, 0, 0, 0, 120_000, tzinfo=UTC)
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T00:00:00",
        "2026-01-31 00:00:00Z",
        "2026-02-30T00:00:00Z",
        "1893456000",
        1_893_456_000,
        "٢٠٢٦-01-31T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_instant_is_refused(text: object) -> None:
    """No offset, no such day, a number, or outside of the calendar."""
    with pytest.raises(ValidationError):
        READER.validate_python(text)
