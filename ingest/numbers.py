"""Exact numbers out of JSON text: what is a number, which are in range, which are the same.

A *token* is the JSON text of one value exactly as it was sent. Nothing here goes through a float.
"""

from __future__ import annotations

import re
from decimal import Decimal

from catalog.events import RejectCode

INTEGER_DIGITS_MAX = 17
"""An event's value is below 10^17 on either side of zero."""

DECIMALS_MAX = 9
FLOAT_DIGITS_MAX = 15
"""A JSON number with more significant digits than these and a fraction has been through a double
somewhere, or will be: its last digits are not the sender's."""

_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_EXPONENT_DIGITS_MAX = 18
_EXPONENT_HUGE = 10**_EXPONENT_DIGITS_MAX
_SPELLED_ZEROS_MAX = 40


def parse_number(text: str) -> tuple[bool, str, int] | None:
    """Split a JSON number into (negative, digits, exponent): ±digits × 10^exponent, exactly.

    ``digits`` has no zero at either end; zero is ``(False, "", 0)``. None if ``text`` is not a JSON
    number. An exponent of more than 18 digits is cut to ±10^18: far out of range either way.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    padded = (whole + fraction).lstrip("0")
    digits = padded.rstrip("0")
    if not digits:
        return False, "", 0
    shift = len(padded) - len(digits) - len(fraction)
    return bool(sign), digits, _exponent(exponent) + shift


def _exponent(text: str) -> int:
    magnitude = text.lstrip("+-").lstrip("0")
    size = int(magnitude or "0") if len(magnitude) <= _EXPONENT_DIGITS_MAX else _EXPONENT_HUGE
    return -size if text.startswith("-") else size


def canonical_number(text: str) -> str:
    """The one spelling of a JSON number's value: ``1``, ``1.0`` and ``1e0`` are all ``1``.

    Plain digits where few zeros are needed, else ``<digits>e<exponent>``.
    """
    parsed = parse_number(text)
    assert parsed is not None, text
    negative, digits, exponent = parsed
    if abs(exponent) >= _EXPONENT_HUGE // 2:
        return text.lower()  # an exponent we cut: equal only if it is spelled the same
    return ("-" if negative else "") + _spell(digits, exponent)


def _spell(digits: str, exponent: int) -> str:
    if not digits:
        return "0"
    if 0 <= exponent <= _SPELLED_ZEROS_MAX:
        return digits + "0" * exponent
    if -_SPELLED_ZEROS_MAX <= exponent < 0:
        padded = digits.rjust(1 - exponent, "0")
        return f"{padded[:exponent]}.{padded[exponent:]}"
    return f"{digits}e{exponent}"


def judge_number(text: str, *, quoted: bool) -> Decimal | RejectCode:
    """The exact value of ``text``, or why a meter cannot read it.

    Args:
        text: what stands in the JSON: a number token, or the content of a string.
        quoted: whether it was a string. Strings are never ``inexact_number``.

    Where several reasons hold the first of these is given: ``invalid_value``, ``out_of_range``,
    ``inexact_number``, ``too_precise``. Trailing zeros are no digits: 1.50000000000000000 is 1.5.
    """
    parsed = parse_number(text)
    if parsed is None:
        return RejectCode.INVALID_VALUE
    negative, digits, exponent = parsed
    if len(digits) + exponent > INTEGER_DIGITS_MAX:
        return RejectCode.OUT_OF_RANGE
    if not quoted and exponent < 0 and len(digits) > FLOAT_DIGITS_MAX:
        return RejectCode.INEXACT_NUMBER
    if exponent < -DECIMALS_MAX:
        return RejectCode.TOO_PRECISE
    return Decimal((int(negative), tuple(map(int, digits)), exponent)) if digits else Decimal(0)


def read_quantity(text: str) -> Decimal | None:
    """``text`` as a Decimal(38, 9), None where it is not one.

    Unlike :func:`judge_number` this reads a long fraction to its last digit: ingest refuses one for
    the sender's sake, and a meter that is added later counts what was sent.
    """
    judged = judge_number(text, quoted=True)
    return judged if isinstance(judged, Decimal) else None
