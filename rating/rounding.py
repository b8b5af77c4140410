"""The one rounding of a line, for columns; fractions go through :mod:`catalog.money`.

Both round half away from zero to the currency's minor units; a test holds them together.
"""

from __future__ import annotations

import polars as pl

from catalog.money import minor_units
from rating.charges.base import EXACT
from rating.frames import AMOUNT


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
