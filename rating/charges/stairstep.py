"""Stairstep: the fee of the one band reached, or of every band up to it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from catalog.charges import Graduated, Stairstep, Volume
from rating.charges import graduated, tiers, volume
from rating.charges.base import Bound, ChargeModel, Part


def _as_tiers(charge: Stairstep) -> Graduated | Volume:
    """The same bands as tiers: each fee once one is reached, or that of the last alone."""
    return Graduated(tiers=charge.tiers) if charge.cumulative else Volume(tiers=charge.tiers)


def _rows(charge: Stairstep) -> list[tuple[Any, ...]]:
    return [(*row, charge.cumulative) for row in tiers.rows(_as_tiers(charge))]


def _columns(lines: pl.DataFrame, bands: pl.DataFrame) -> pl.DataFrame:
    found = []
    for cumulative, model in ((True, graduated.MODEL), (False, volume.MODEL)):
        rows = bands.filter(pl.col("cumulative") == cumulative)
        own = lines.join(rows.select("terms").unique(), on="terms", how="semi")
        found.append(model.columns(own, rows.drop("cumulative")))
    return pl.concat(found)


def _exact(charge: Stairstep, units: Fraction) -> tuple[Part, ...]:
    bands = _as_tiers(charge)
    if isinstance(bands, Graduated):
        return graduated.MODEL.exact(bands, units)
    return volume.MODEL.exact(bands, units)


def _bound(charge: Stairstep) -> Bound:
    return tiers.bound(_as_tiers(charge))


def _prices(charge: Stairstep) -> list[Decimal]:
    return tiers.prices(_as_tiers(charge))


def _sizes(charge: Stairstep) -> list[Decimal]:
    return tiers.sizes(_as_tiers(charge))


MODEL = ChargeModel(
    kind=Stairstep,
    schema=pl.Schema({**tiers.TIERS, "cumulative": pl.Boolean()}),
    rows=_rows,
    columns=_columns,
    exact=_exact,
    bound=_bound,
    prices=_prices,
    sizes=_sizes,
    bends=lambda charge: tiers.bends(_as_tiers(charge)),
)
"""Nothing used (or less) reaches no band; beyond a bounded last one units are refused."""
