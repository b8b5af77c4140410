"""Package: whole packages of the units beyond the free ones, rounded up."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.charges import Package
from rating.charges.base import (
    PRICE,
    UNITS,
    Bound,
    ChargeModel,
    Part,
    ceiling,
    packages,
    times,
)


def _columns(lines: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    sold = packages(pl.col("units") - pl.col("free_units"), pl.col("size"))
    return lines.join(prices, on="terms").select(
        "line", amount=times(sold, pl.col("package_price"))
    )


def _exact(charge: Package, units: Fraction) -> tuple[Part, ...]:
    beyond = max(Fraction(0), units - Fraction(charge.free_units))
    sold = ceiling(beyond, charge.size)
    return (
        Part(
            units=beyond,
            priced=Fraction(sold),
            unit_price=charge.package_price,
            amount=sold * Fraction(charge.package_price),
            package_size=charge.size,
        ),
    )


def _bound(charge: Package) -> Bound:
    price = max(Fraction(1), abs(Fraction(charge.package_price)))
    rate = price / Fraction(charge.size)
    return Bound(fixed=price + rate * abs(Fraction(charge.free_units)), per_unit=rate)


def _sizes(charge: Package) -> list[Decimal]:
    return [charge.size, charge.free_units]


MODEL = ChargeModel(
    kind=Package,
    schema=pl.Schema({"size": UNITS, "package_price": PRICE, "free_units": UNITS}),
    rows=lambda charge: [(charge.size, charge.package_price, charge.free_units)],
    columns=_columns,
    exact=_exact,
    bound=_bound,
    prices=lambda charge: [charge.package_price],
    sizes=_sizes,
)
"""The free units are taken off first, then the rest is rounded up; nothing used sells nothing."""
