"""Dynamic: every event names its own price; the line is their sum, times a multiplier."""

from __future__ import annotations

from catalog.charges import Dynamic, PerUnit
from catalog.pricebooks import Price
from rating.charges.base import Composed, stated


def priced_by(charge: Dynamic) -> PerUnit:
    """What the sum of the events' own amounts is priced by."""
    return PerUnit(unit_price=charge.multiplier)


def _clashes(price: Price) -> list[str]:
    return stated(price, "convert", "included", "bucket", "tiers_span", "quantity")


MODEL = Composed(kind=Dynamic, applies=lambda _: True, clashes=_clashes)
"""The quantity shown is the meter's. An event without the amount costs nothing."""
