"""Amounts as whole nano-units (1e-9), so that sums and comparisons are plain integers."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from catalog.errors import FieldError, InvalidRequest, OutOfRange

DECIMALS = 9
UNIT = 10**DECIMALS
AMOUNT_NANOS_MAX = 10**17 * UNIT
"""Amounts are below 10^17 units: what an event's value is promised to hold exactly."""

AMOUNTS_KEPT = 4_096
"""Amounts that were read lately: most requests ask for the same few."""

_AMOUNT = re.compile(r"(-?)(\d{1,40})(?:\.(\d{1,40}))?")


def to_nanos(amount: Decimal) -> int:
    """A decimal of at most nine decimals as nano-units, exact whatever the decimal context."""
    sign, digits, exponent = amount.as_tuple()
    shift = int(exponent) + DECIMALS
    whole = int("".join(map(str, digits)))
    nanos = int(whole * 10**shift if shift >= 0 else whole // 10**-shift)
    return -nanos if sign else nanos


def to_text(nanos: int) -> str:
    """Nano-units as a plain decimal: no exponent, no trailing zeros."""
    sign = "-" if nanos < 0 else ""
    whole, part = divmod(abs(nanos), UNIT)
    fraction = f".{part:09d}".rstrip("0") if part else ""
    return f"{sign}{whole}{fraction}"


def parse_amount(value: object, *, pointer: str) -> int:
    """An amount of a request, a decimal string or a whole JSON number, as nano-units.

    Raises:
        InvalidRequest: not a number, negative, or more than nine decimals.
        OutOfRange: 10^17 or more.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _wrong("must be a decimal as a string, or a whole number", pointer)
    if isinstance(value, int) and abs(value) >= 10**17:
        raise OutOfRange("an amount must be below 10^17")  # before str(): digits are limited
    nanos = _read(value)
    if isinstance(nanos, str):
        raise _wrong(nanos, pointer)
    if nanos >= AMOUNT_NANOS_MAX:
        raise OutOfRange("an amount must be below 10^17")
    return nanos


@lru_cache(AMOUNTS_KEPT)
def _read(value: str | int) -> int | str:
    """Nano-units, or what is wrong with the number."""
    text = str(value)
    match = _AMOUNT.fullmatch(text) if text.isascii() else None
    if match is None:
        return "must be a plain decimal of at most 40 digits"
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if sign:
        return "must not be negative"
    if len(fraction) > DECIMALS:
        return f"must have at most {DECIMALS} decimals"
    nanos: int = int(whole) * UNIT + int(fraction.ljust(DECIMALS, "0"))
    return nanos


def _wrong(detail: str, pointer: str) -> InvalidRequest:
    return InvalidRequest(
        f"{pointer} {detail}", errors=[FieldError(pointer=pointer, detail=detail)]
    )
