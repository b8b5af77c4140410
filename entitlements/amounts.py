"""Amounts as whole nano-units (1e-9), so that sums and comparisons are plain integers."""

from __future__ import annotations

import re
from decimal import Decimal

from catalog.errors import FieldError, InvalidRequest, OutOfRange

DECIMALS = 9
UNIT = 10**DECIMALS
AMOUNT_NANOS_MAX = 10**17 * UNIT
"""Amounts are below 10^17 units: what an event's value is promised to hold exactly."""

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
    match = _AMOUNT.fullmatch(str(value)) if str(value).isascii() else None
    if match is None:
        raise _wrong("must be a plain decimal of at most 40 digits", pointer)
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if sign:
        raise _wrong("must not be negative", pointer)
    if len(fraction) > DECIMALS:
        raise _wrong(f"must have at most {DECIMALS} decimals", pointer)
    nanos: int = int(whole) * UNIT + int(fraction.ljust(DECIMALS, "0"))
    if nanos >= AMOUNT_NANOS_MAX:
        raise OutOfRange("an amount must be below 10^17")
    return nanos


def _wrong(detail: str, pointer: str) -> InvalidRequest:
    return InvalidRequest(
        f"{pointer} {detail}", errors=[FieldError(pointer=pointer, detail=detail)]
    )
