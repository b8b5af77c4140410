"""Graduated percentage: a share of an amount, tier by tier."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.charges import Graduated, GraduatedPercentage, Tier
from rating.charges import graduated, tiers
from rating.charges.base import Bound, ChargeModel, Part, hundredth


def _as_tiers(charge: GraduatedPercentage) -> Graduated:
    """The same tiers with the share as the price of a unit."""
    return Graduated(
        tiers=tuple(
            Tier(up_to=t.up_to, unit_price=hundredth(t.percent), flat_fee=t.flat_fee)
            for t in charge.tiers
        ),
        flat_fee_when_unused=charge.flat_fee_when_unused,
    )


def _rows(charge: GraduatedPercentage) -> list[tuple[Any, ...]]:
    return tiers.rows(_as_tiers(charge))


def _exact(charge: GraduatedPercentage, units: Fraction) -> tuple[Part, ...]:
    return graduated.MODEL.exact(_as_tiers(charge), units)


def _bound(charge: GraduatedPercentage) -> Bound:
    return tiers.bound(_as_tiers(charge))


def _prices(charge: GraduatedPercentage) -> list[Decimal]:
    return tiers.prices(_as_tiers(charge))


def _sizes(charge: GraduatedPercentage) -> list[Decimal]:
    return tiers.sizes(_as_tiers(charge))


MODEL = ChargeModel(
    kind=GraduatedPercentage,
    schema=tiers.TIERS,
    rows=_rows,
    columns=graduated.MODEL.columns,
    exact=_exact,
    bound=_bound,
    prices=_prices,
    sizes=_sizes,
    bends=lambda charge: tiers.bends(_as_tiers(charge)),
)
"""As graduated, where a unit is one unit of currency; beyond a bounded last tier: refused."""
