"""Percentage with terms for each event: events are priced one by one, as columns, in bands.

Events come in order of (time, received_at, node, seq). Free units are used up in that order; an
event is free while both the free units and the free events there are last. What is left of it
costs ``percent`` of it plus ``fixed``, at least ``event_minimum``, at most ``event_maximum``. What
was taken back (below zero) is returned at ``percent`` alone.

So a line is a few sums, one a band, each priced by one unit price: exact, and short to explain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.charges import Percentage, PerUnit
from catalog.money import from_units
from catalog.pricebooks import Price
from rating.charges.base import UNITS, Composed, hundredth, stated
from rating.charges.percentage import per_event

BANDS = ("share", "fixed", "event_minimum", "event_maximum", "returned", "free")
"""What is summed: amounts at ``percent``; numbers of events at ``fixed`` and at either bound;
amounts taken back; amounts that are free."""

_ORDER = ("time", "received_at", "node", "seq")
_NONE = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where the bounds of an event's price bite, as the amount that is left of the event.

    From ``low`` down it costs the minimum, from ``high`` up the maximum; where a percentage is
    negative it is the other way round. Exact: an amount between has more than 9 decimals.
    """

    falling: bool
    low: Decimal | None
    high: Decimal | None


def band_prices(charge: Percentage) -> tuple[PerUnit, ...]:
    """What each of BANDS is priced by."""
    share = hundredth(charge.percent)
    prices = (share, charge.fixed, charge.event_minimum, charge.event_maximum, share, _NONE)
    return tuple(PerUnit(unit_price=price or _NONE) for price in prices)


def limits(charge: Percentage) -> Limits:
    """Where the bounds of ``charge`` bite."""
    falling = charge.percent < 0
    return Limits(
        falling=falling,
        low=_limit(charge, charge.event_minimum, downwards=not falling),
        high=_limit(charge, charge.event_maximum, downwards=falling),
    )


def _limit(charge: Percentage, bound: Decimal | None, *, downwards: bool) -> Decimal | None:
    """The amount at which ``bound`` is met, to the 9 decimals that amounts have."""
    if bound is None or charge.percent == 0:
        return None
    share = Fraction(hundredth(charge.percent))
    met = (Fraction(bound) - Fraction(charge.fixed or 0)) / share * 10**9
    nanos = math.floor(met) if downwards else math.ceil(met)
    limit = 10**18 * 10**9
    return from_units(max(-limit, min(limit, nanos)), 9)


def banded(facts: pl.DataFrame, charge: Percentage, *, keys: list[str]) -> pl.DataFrame:
    """``keys``, ``row`` (of BANDS) and ``quantity``: the bands of each group of ``facts``.

    ``facts`` have ``keys``, ``value`` and what orders them; all of one charge.
    """
    ordered = facts.sort(*_ORDER).with_columns(
        positive=pl.col("value").clip(lower_bound=_NONE),
        number=pl.col("value").cum_count().over(keys).cast(pl.Int64),
    )
    ordered = ordered.with_columns(used=pl.col("positive").cum_sum().over(keys).cast(UNITS))
    left = _left(ordered, charge)
    sums = left.group_by(keys).agg(*_sums(charge))
    return sums.unpivot(index=keys, on=list(BANDS), value_name="quantity").select(
        *keys,
        row=pl.col("variable").replace_strict(
            list(BANDS), range(len(BANDS)), return_dtype=pl.Int64
        ),
        quantity=pl.col("quantity").cast(UNITS),
    )


def _left(ordered: pl.DataFrame, charge: Percentage) -> pl.DataFrame:
    """Each event with ``left`` to price and whether it is ``free`` altogether."""
    units, count = charge.free_units or None, charge.free_events or None
    counted = pl.lit(value=True) if count is None else pl.col("number") <= count
    if units is not None:
        before = pl.col("used") - pl.col("positive")
        allowed = pl.lit(units, UNITS) - before
        room = pl.when(counted).then(allowed).otherwise(pl.lit(_NONE, UNITS))
        free = counted & (pl.col("used") <= pl.lit(units, UNITS))
    else:
        free = counted if count is not None else pl.lit(value=False)
        room = pl.when(free).then("positive").otherwise(pl.lit(_NONE, UNITS))
    taken = pl.min_horizontal("positive", room.clip(lower_bound=_NONE))
    return ordered.with_columns(left=pl.col("positive") - taken, free=free)


def _sums(charge: Percentage) -> list[pl.Expr]:
    """One expression a band. Sums cannot wrap: values are below 10^17, there are not 10^12."""
    left, priced = pl.col("left"), ~pl.col("free") & (pl.col("value") >= _NONE)
    returned = ~pl.col("free") & (pl.col("value") < _NONE)
    at_least, at_most = _bitten(charge)
    low, high = priced & at_least, priced & at_most & ~at_least
    plain = priced & ~low & ~high
    counts = {"fixed": plain, "event_minimum": low, "event_maximum": high}
    return [
        left.filter(plain).sum().alias("share"),
        *(which.sum().cast(pl.Int64).cast(UNITS).alias(name) for name, which in counts.items()),
        pl.col("value").filter(returned).sum().alias("returned"),
        (pl.col("value") - left).filter(~returned).sum().alias("free"),
    ]


def _bitten(charge: Percentage) -> tuple[pl.Expr, pl.Expr]:
    """Whether an event is at its minimum, and whether at its maximum."""
    never, left = pl.lit(value=False), pl.col("left")
    if charge.percent == 0:
        fixed = charge.fixed or _NONE
        least, most = charge.event_minimum, charge.event_maximum
        return (
            pl.lit(least is not None and fixed <= least),
            pl.lit(most is not None and fixed >= most),
        )
    where = limits(charge)
    low = never if where.low is None else _meets(left, where.low, downwards=not where.falling)
    high = never if where.high is None else _meets(left, where.high, downwards=where.falling)
    return low, high


def _meets(left: pl.Expr, limit: Decimal, *, downwards: bool) -> pl.Expr:
    bound = pl.lit(limit, UNITS)
    return left <= bound if downwards else left >= bound


def _clashes(price: Price) -> list[str]:
    return stated(price, "convert", "included", "bucket", "tiers_span", "quantity")


MODEL = Composed(kind=Percentage, applies=per_event, clashes=_clashes)
"""Needs a sum of values: on any other meter it is refused where it is rated."""
