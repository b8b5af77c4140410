"""Volume: all units at the price of the one tier the quantity reaches."""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from catalog.charges import Volume
from rating.charges.base import ChargeModel, NotCovered, Part
from rating.charges.tiers import (
    TIERS,
    bends,
    bound,
    prices,
    refuses,
    rows,
    sizes,
    tier_amount,
    tier_part,
)


def _columns(lines: pl.DataFrame, tiers: pl.DataFrame) -> pl.DataFrame:
    above = (pl.col("units") > pl.col("units_from")) | (pl.col("tier") == 1)
    below = pl.col("units_to").is_null() | (pl.col("units") <= pl.col("units_to"))
    reached = lines.join(tiers, on="terms").filter(above & below)
    priced = reached.select("line", amount=tier_amount(pl.col("units")))
    free = lines.join(priced, on="line", how="anti").select("line")
    zeros = free.with_columns(amount=pl.lit(0).cast(priced.schema["amount"]))
    return pl.concat([priced, zeros])


def _exact(charge: Volume, units: Fraction) -> tuple[Part, ...]:
    for index, tier in enumerate(charge.tiers):
        if tier.up_to is None or units <= Fraction(tier.up_to):
            return (tier_part(charge, index, units),)
    limit = refuses(charge)
    if limit is not None:
        raise NotCovered(f"units lie beyond the last tier, which ends at {limit:f}")
    return ()


MODEL = ChargeModel(
    kind=Volume,
    schema=TIERS,
    rows=rows,
    columns=_columns,
    exact=_exact,
    bound=bound,
    prices=prices,
    sizes=sizes,
    bends=bends,
)
"""Units below zero reach the first tier. Beyond a bounded last tier: refused, or all free."""
