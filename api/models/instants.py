"""Instants as callers write them: RFC 3339 with an offset, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _written(given: object) -> object:
    # Pydantic would read a bare number as Unix time, in seconds or milliseconds by its size.
    if isinstance(given, datetime):
        return given
    if not isinstance(given, str) or not _RFC3339.fullmatch(given):
        raise ValueError("not RFC 3339 with an offset, as 2026-01-31T00:00:00Z")
    return given


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not in the years 1 to 9999 of UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]
"""A parameter or field that is an instant; always in UTC, so it can be shown again."""
