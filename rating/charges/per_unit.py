"""Per unit: every unit at one price."""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from catalog.charges import PerUnit
from rating.charges.base import PRICE, ZERO, Bound, ChargeModel, Part, times


def _columns(lines: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    return lines.join(prices, on="terms").select(
        "line", amount=times(pl.col("units"), pl.col("unit_price"))
    )


def _exact(charge: PerUnit, units: Fraction) -> tuple[Part, ...]:
    amount = units * Fraction(charge.unit_price)
    return (Part(units=units, priced=units, unit_price=charge.unit_price, amount=amount),)


def _bound(charge: PerUnit) -> Bound:
    return Bound(fixed=ZERO, per_unit=abs(Fraction(charge.unit_price)))


MODEL = ChargeModel(
    kind=PerUnit,
    schema=pl.Schema({"unit_price": PRICE}),
    rows=lambda charge: [(charge.unit_price,)],
    columns=_columns,
    exact=_exact,
    bound=_bound,
    prices=lambda charge: [charge.unit_price],
    sizes=lambda _: [],
    bends=lambda _: [],
)
"""Negative units (more taken back than used) are a negative amount."""
