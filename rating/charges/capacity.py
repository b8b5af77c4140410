"""Capacity: the first plan that every one of several quantities fits into."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from catalog.charges import Capacity, Flat
from catalog.ids import MeterId
from catalog.pricebooks import Price
from rating.charges.base import Composed, NotCovered, stated


def meters_of(charge: Capacity) -> tuple[MeterId, ...]:
    """The meters that the plans limit."""
    return tuple(sorted({meter for tier in charge.tiers for meter, _ in tier.up_to or ()}))


def fitting(charge: Capacity, used: Mapping[MeterId, Fraction]) -> tuple[int, Flat]:
    """The plan (from 0) that holds what was ``used`` (nothing where it says nothing), and its fee.

    Raises:
        NotCovered: the last plan is bounded and does not hold it.
    """
    for index, tier in enumerate(charge.tiers):
        limits = tier.up_to or ()
        if all(used.get(meter, Fraction(0)) <= Fraction(limit) for meter, limit in limits):
            return index, Flat(amount=tier.amount)
    raise NotCovered("the usage fits none of the plans")


def _clashes(price: Price) -> list[str]:
    names = ("convert", "included", "bucket", "tiers_span", "group_by", "quantity")
    return stated(price, *names)


MODEL = Composed(kind=Capacity, applies=lambda _: True, clashes=_clashes)
"""A plan is due whether anything was used or not; the line's quantity is 1, the plan."""
