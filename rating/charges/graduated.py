"""Graduated: each tier prices the units that lie in it."""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from catalog.charges import Graduated
from rating.charges.base import ChargeModel, NotCovered, Part
from rating.charges.tiers import (
    TIERS,
    bends,
    bound,
    lower_bounds,
    prices,
    refuses,
    rows,
    sizes,
    tier_amount,
    tier_part,
)


def _columns(lines: pl.DataFrame, tiers: pl.DataFrame) -> pl.DataFrame:
    reached = (pl.col("units") > pl.col("units_from")) | (pl.col("tier") == 1)
    inside = pl.min_horizontal("units", "units_to") - pl.col("units_from")
    parts = lines.join(tiers, on="terms").filter(reached).select("line", amount=tier_amount(inside))
    covered = pl.col("amount").is_not_null().all()
    return parts.group_by("line").agg(amount=pl.when(covered).then(pl.col("amount").sum()))


def _exact(charge: Graduated, units: Fraction) -> tuple[Part, ...]:
    limit = refuses(charge)
    if limit is not None and units > Fraction(limit):
        raise NotCovered(f"units lie beyond the last tier, which ends at {limit:f}")
    parts = []
    for index, (tier, low) in enumerate(zip(charge.tiers, lower_bounds(charge), strict=True)):
        if index == 0 or units > low:
            top = units if tier.up_to is None else min(units, Fraction(tier.up_to))
            parts.append(tier_part(charge, index, top - Fraction(low)))
    return tuple(parts)


MODEL = ChargeModel(
    kind=Graduated,
    schema=TIERS,
    rows=rows,
    columns=_columns,
    exact=_exact,
    bound=bound,
    prices=prices,
    sizes=sizes,
    bends=bends,
)
"""Units below zero (more taken back than used) are priced by the first tier, without its fee."""
