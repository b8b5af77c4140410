"""Flat: a fee that does not depend on usage, times the price's fixed quantity."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.charges import Flat
from rating.charges.base import PRICE, ZERO, Bound, ChargeModel, Part, times


def _columns(lines: pl.DataFrame, fees: pl.DataFrame) -> pl.DataFrame:
    return lines.join(fees, on="terms").select("line", amount=times(pl.col("units"), pl.col("fee")))


def _exact(charge: Flat, units: Fraction) -> tuple[Part, ...]:
    amount = units * Fraction(charge.amount)
    return (Part(units=units, priced=units, unit_price=charge.amount, amount=amount),)


def _bound(charge: Flat) -> Bound:
    return Bound(fixed=ZERO, per_unit=abs(Fraction(charge.amount)))


def _prices(charge: Flat) -> list[Decimal]:
    return [charge.amount]


MODEL = ChargeModel(
    kind=Flat,
    schema=pl.Schema({"fee": PRICE}),
    rows=lambda charge: [(charge.amount,)],
    columns=_columns,
    exact=_exact,
    bound=_bound,
    prices=_prices,
    sizes=lambda _: [],
    bends=lambda _: [],
)
"""``units`` are the price's ``quantity`` (1 where it names none); fractions of a fee are fine."""
