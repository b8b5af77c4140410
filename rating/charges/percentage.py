"""Percentage: a share of an amount beyond the free units.

Without terms for each event it is a formula of the units alone, which is here. With them
(``fixed``, ``free_events``, bounds, and then free units too) it is priced event by event: see
:mod:`rating.charges.events`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.charges import Percentage
from rating.charges.base import PRICE, UNITS, ZERO, Bound, ChargeModel, Part, hundredth, times


def per_event(charge: Percentage) -> bool:
    """Whether the charge has terms for each event."""
    bounded = charge.event_minimum is not None or charge.event_maximum is not None
    return bounded or charge.fixed is not None or bool(charge.free_events)


def _columns(lines: pl.DataFrame, shares: pl.DataFrame) -> pl.DataFrame:
    left = (pl.col("units") - pl.col("free_units")).clip(lower_bound=Decimal(0))
    priced = pl.when(pl.col("units") > 0).then(left).otherwise("units")
    return lines.join(shares, on="terms").select("line", amount=times(priced, pl.col("share")))


def _exact(charge: Percentage, units: Fraction) -> tuple[Part, ...]:
    free = Fraction(charge.free_units or 0)
    taken = max(ZERO, min(free, units))
    parts = [_part(units - taken, hundredth(charge.percent))]
    return tuple([*parts, _part(taken, Decimal(0))] if taken else parts)


def _part(units: Fraction, share: Decimal) -> Part:
    return Part(units=units, priced=units, unit_price=share, amount=units * Fraction(share))


def _bound(charge: Percentage) -> Bound:
    return Bound(fixed=ZERO, per_unit=abs(Fraction(charge.percent)) / 100)


MODEL = ChargeModel(
    kind=Percentage,
    schema=pl.Schema({"share": PRICE, "free_units": UNITS}),
    rows=lambda charge: [(hundredth(charge.percent), charge.free_units or Decimal(0))],
    columns=_columns,
    exact=_exact,
    bound=_bound,
    prices=lambda charge: [hundredth(charge.percent)],
    sizes=lambda charge: [charge.free_units or Decimal(0)],
    bends=lambda charge: [charge.free_units or Decimal(0)],
)
"""Net returns are a negative amount at the same share; they use up no free units."""
