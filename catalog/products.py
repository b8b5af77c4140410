"""What is sold (products) and what is gated (features)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from catalog.ids import FeatureId, MeterId, ProductId
from catalog.meters import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Something with a price. Without a meter it is only ever a fixed fee.

    ``filter`` names dimensions of the meter: only facts that pass are this product's usage.
    ``tax_code`` picks the rate in a tax table.
    """

    id: ProductId
    name: str
    meter: MeterId | None = None
    filter: tuple[Condition, ...] = ()
    tax_code: str | None = None


class FeatureKind(StrEnum):
    """How a feature gates: by an allowance, by being there, or by a value."""

    METERED = "metered"
    BOOLEAN = "boolean"
    STATIC = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something a customer may be entitled to. ``meter`` is set for metered ones only."""

    id: FeatureId
    kind: FeatureKind
    meter: MeterId | None = None
