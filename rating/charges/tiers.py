"""Tiers as rows, shared by the models that have them (graduated, volume)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from catalog.charges import Beyond, Graduated, Tier, Volume
from rating.charges.base import EXACT, PRICE, UNITS, Bound, Part, ceiling, packages, times

Tiered = Graduated | Volume

TIERS = pl.Schema(
    {
        "tier": pl.Int64(),
        "units_from": UNITS,
        "units_to": UNITS,
        "unit_price": PRICE,
        "flat_fee": PRICE,
        "package_size": UNITS,
        "maximum": PRICE,
        "fee_when_unused": pl.Boolean(),
        "covers": pl.Boolean(),
    }
)
"""One row a tier, numbered from 1, for units in ``(units_from, units_to]``; an open end is null.

``covers`` is false on one more row behind a bounded last tier: the units it refuses.
"""


def lower_bounds(charge: Tiered) -> list[Decimal]:
    """Where each tier begins: the bound of the one before."""
    return [Decimal(0), *(tier.up_to or Decimal(0) for tier in charge.tiers[:-1])]


def refuses(charge: Tiered) -> Decimal | None:
    """The bound beyond which units are refused; null where nothing is."""
    return charge.tiers[-1].up_to if charge.beyond is Beyond.REFUSE else None


def rows(charge: Tiered) -> list[tuple[Any, ...]]:
    """``charge`` as TIERS rows."""
    made: list[tuple[Any, ...]] = [
        (
            index,
            units_from,
            tier.up_to,
            tier.unit_price or Decimal(0),
            tier.flat_fee or Decimal(0),
            tier.package_size,
            tier.maximum,
            charge.flat_fee_when_unused and index == 1,
            True,
        )
        for index, (units_from, tier) in enumerate(
            zip(lower_bounds(charge), charge.tiers, strict=True), start=1
        )
    ]
    limit = refuses(charge)
    if limit is not None:
        zero = Decimal(0)
        made.append((len(made) + 1, limit, None, zero, zero, None, None, False, False))
    return made


def tier_amount(units: pl.Expr) -> pl.Expr:
    """What ``units`` in the tier of each row cost; null where the row refuses them."""
    size = pl.col("package_size")
    priced = pl.when(size.is_null()).then(units).otherwise(packages(units, size))
    due = (units > 0) | pl.col("fee_when_unused")
    fee = pl.when(due).then(pl.col("flat_fee")).otherwise(pl.lit(Decimal(0), dtype=PRICE))
    cost = times(priced, pl.col("unit_price")) + fee.cast(EXACT)
    capped = pl.min_horizontal(cost, pl.col("maximum").cast(EXACT))
    return pl.when(pl.col("covers")).then(capped)


def tier_part(charge: Tiered, index: int, units: Fraction) -> Part:
    """What ``units`` in the tier at ``index`` (from 0) cost, as a fraction."""
    tier = charge.tiers[index]
    size, price = tier.package_size, tier.unit_price or Decimal(0)
    priced = units if size is None else Fraction(ceiling(units, size))
    unused = charge.flat_fee_when_unused and index == 0
    fee = (tier.flat_fee or Decimal(0)) if units > 0 or unused else Decimal(0)
    cost = priced * Fraction(price) + Fraction(fee)
    return Part(
        units=units,
        priced=priced,
        unit_price=price,
        amount=cost if tier.maximum is None else min(cost, Fraction(tier.maximum)),
        flat_fee=fee,
        package_size=size,
        maximum=tier.maximum,
        tier=index + 1,
        units_from=lower_bounds(charge)[index],
        units_to=tier.up_to,
    )


def bound(charge: Tiered) -> Bound:
    """No number on the way exceeds all fees, one package a tier, and the dearest unit price."""
    return Bound(
        fixed=sum((_fixed(tier) for tier in charge.tiers), Fraction(0)),
        per_unit=max(_rate(tier) for tier in charge.tiers),
    )


def _fixed(tier: Tier) -> Fraction:
    package = Fraction(0) if tier.package_size is None else _package_price(tier)
    fees = (tier.flat_fee or Decimal(0), tier.maximum or Decimal(0))
    return package + sum((abs(Fraction(fee)) for fee in fees), Fraction(0))


def _rate(tier: Tier) -> Fraction:
    if tier.package_size is None:
        return abs(Fraction(tier.unit_price or 0))
    return _package_price(tier) / Fraction(tier.package_size)


def _package_price(tier: Tier) -> Fraction:
    return max(Fraction(1), abs(Fraction(tier.unit_price or 0)))


def bends(charge: Tiered) -> list[Decimal] | None:
    """Where the tiers end; null where one of them is priced in packages or up to a maximum."""
    if any(t.package_size is not None or t.maximum is not None for t in charge.tiers):
        return None
    return [tier.up_to for tier in charge.tiers if tier.up_to is not None]


def prices(charge: Tiered) -> list[Decimal]:
    """Every amount of money in the tiers."""
    fields = ((t.unit_price, t.flat_fee, t.maximum) for t in charge.tiers)
    return [price for row in fields for price in row if price is not None]


def sizes(charge: Tiered) -> list[Decimal]:
    """Every number of units in the tiers."""
    fields = ((t.up_to, t.package_size) for t in charge.tiers)
    return [size for row in fields for size in row if size is not None]
