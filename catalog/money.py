"""Exact numbers: what may be written, how far it may reach, and the one rounding.

A decimal is read from its text and never passes through a float. Arithmetic on what is read here
must not use Python's default context (28 digits, inexact): build from integers, or use
:data:`fractions.Fraction`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from iso4217 import Currency

from catalog.errors import InvalidRequest, OutOfRange

QUANTITY_DECIMALS = 9
PRICE_DECIMALS = 12
AMOUNT_LIMIT = 10**17
TEXT_CHARACTERS_MAX = 64

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]+)(?:\.(?P<part>[0-9]+))?(?:[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)


class InvalidDecimal(InvalidRequest):
    """A text that is not a plain decimal number."""

    code = "invalid_decimal"


class TooPrecise(InvalidRequest):
    """More decimals than are kept exactly; nothing was rounded."""

    code = "too_precise"


class UnknownCurrency(InvalidRequest):
    """Not a code of ISO 4217, or one (gold, test codes) without minor units."""

    code = "unknown_currency"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLimit:
    """How large (exclusive, in absolute value) and how fine a kind of number may be."""

    name: str
    below: int
    decimals: int


QUANTITY = NumberLimit(name="quantity", below=10**18, decimals=QUANTITY_DECIMALS)
PRICE = NumberLimit(name="price", below=10**14, decimals=PRICE_DECIMALS)
AMOUNT = NumberLimit(name="amount", below=AMOUNT_LIMIT, decimals=PRICE_DECIMALS)


def parse_decimal(text: str | int, limit: NumberLimit) -> Decimal:
    """Read ``text`` exactly, without trailing zeros: ``-12``, ``0.00003``, ``3e-5``.

    Raises:
        InvalidDecimal: floats, NaN, infinities, blanks, three-digit exponents, texts over 64
            characters.
        OutOfRange: not below ``limit.below``.
        TooPrecise: more than ``limit.decimals`` decimals that are not zeros.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise InvalidDecimal("a decimal must be a string")
    if isinstance(text, int):
        return _bounded(text, 0, limit)
    found = _NUMBER.fullmatch(text) if len(text) <= TEXT_CHARACTERS_MAX else None
    if found is None:
        raise InvalidDecimal(f"{text[:TEXT_CHARACTERS_MAX]!r} is not a decimal number")
    part = found["part"] or ""
    units, decimals = int(found["whole"] + part), len(part) - int(found["exponent"] or 0)
    while units and decimals > 0 and units % 10 == 0:
        units, decimals = units // 10, decimals - 1
    if not units or decimals < 0:
        units, decimals = units * 10 ** max(0, -decimals), 0
    return _bounded(-units if found["sign"] == "-" else units, decimals, limit)


def _bounded(units: int, decimals: int, limit: NumberLimit) -> Decimal:
    if decimals > limit.decimals:
        raise TooPrecise(f"a {limit.name} has at most {limit.decimals} decimals")
    if abs(units) >= limit.below * 10**decimals:
        raise OutOfRange(f"a {limit.name} must be below 10^{len(str(limit.below)) - 1}")
    return from_units(units, decimals)


def from_units(units: int, decimals: int) -> Decimal:
    """``units`` / 10^``decimals`` with exactly that many decimals, whatever the context."""
    digits = tuple(map(int, str(abs(units))))
    return Decimal((int(units < 0), digits, -decimals))


def plain(number: Decimal) -> str:
    """``number`` as text without exponent, trailing zeros or a negative zero."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def minor_units(currency: str) -> int:
    """How many decimals amounts in ``currency`` have (USD 2, JPY 0, KWD 3).

    Raises:
        UnknownCurrency: not an ISO 4217 code of money with minor units.
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise UnknownCurrency(f"{currency[:16]!r} is not a currency of ISO 4217")
    return int(exponent)


def nearest(numerator: int, denominator: int) -> int:
    """The whole number nearest to a fraction, half away from zero. The only place."""
    if denominator <= 0:
        raise ValueError("a fraction's denominator is positive")
    units = (2 * abs(numerator) + denominator) // (2 * denominator)
    return -units if numerator < 0 else units


def round_amount(numerator: int, denominator: int, decimals: int) -> Decimal:
    """Round an exact fraction to ``decimals`` (minor units), half away from zero.

    Raises:
        OutOfRange: the amount is not below 10^17.
    """
    units = nearest(numerator * 10**decimals, denominator)
    if abs(units) >= AMOUNT_LIMIT * 10**decimals:
        raise OutOfRange("an amount must be below 10^17")
    return from_units(units, decimals)


def round_fraction(amount: Fraction, decimals: int) -> Decimal:
    """:func:`round_amount` of a :class:`~fractions.Fraction`."""
    return round_amount(amount.numerator, amount.denominator, decimals)


def round_quantity(quantity: Fraction) -> Decimal:
    """A quantity as it is shown: with 9 decimals, half away from zero. Nothing is priced by it.

    Raises:
        OutOfRange: the quantity is not below 10^18.
    """
    units = nearest(quantity.numerator * 10**QUANTITY_DECIMALS, quantity.denominator)
    if abs(units) >= QUANTITY.below * 10**QUANTITY_DECIMALS:
        raise OutOfRange("a quantity must be below 10^18")
    return from_units(units, QUANTITY_DECIMALS)
