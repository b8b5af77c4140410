"""Rounding for columns: of lines, and of what whole numbers of minor units are shared out by.

Fractions go through :mod:`catalog.money`. All round half away from zero; tests hold them together.
"""

from __future__ import annotations

import polars as pl

from catalog.money import minor_units
from rating.charges.base import EXACT
from rating.frames import AMOUNT

MILLION = 10**6


def round_amounts(lines: pl.DataFrame) -> pl.DataFrame:
    """``amount`` (Decimal(38,21)) rounded to the minor units of ``currency``, as Decimal(38,6).

    Amounts are below 10^17: :func:`rating.book.units_max` sees to it.
    """
    rounded = pl.lit(None, EXACT)
    for currency in lines["currency"].unique().sort():
        decimals = minor_units(currency)
        minor = pl.col("amount").round(decimals, mode="half_away_from_zero")
        rounded = pl.when(pl.col("currency") == currency).then(minor).otherwise(rounded)
    return lines.with_columns(amount=rounded.cast(AMOUNT))


def nearest_whole(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """:func:`catalog.money.nearest` of 128-bit integers, ``denominator`` above 0.

    Twice the numerator plus the denominator must stay below 2^127: beyond it they wrap.
    """
    size: pl.Expr = (numerator.abs() * 2 + denominator) // (denominator * 2)
    return size * numerator.sign()


def minor_steps(rows: pl.DataFrame) -> pl.Expr:
    """How many of AMOUNT's smallest steps (millionths) a minor unit of ``currency`` is."""
    codes = rows["currency"].unique().to_list()
    steps = {code: MILLION // 10 ** minor_units(code) for code in codes}
    return pl.col("currency").replace_strict(steps, return_dtype=pl.Int128)


def from_millionths(whole: pl.Expr) -> pl.Expr:
    """An AMOUNT of its smallest steps: the inverse of ``to_physical``."""
    amount: pl.Expr = whole.cast(AMOUNT) / MILLION
    return amount
