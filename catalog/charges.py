"""The charge models: how a quantity becomes an amount.

All amounts are in the currency's major unit, to 12 decimals. Tier bounds are inclusive above
and continuous (100.5 units are priced as such). The kernels are in ``rating/charges/``, one
file a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from catalog.ids import MeterId

ANY = "*"
"""In a matrix row: any value of the dimension."""


class Beyond(StrEnum):
    """What becomes of a quantity (or row) that no tier (or row) covers."""

    REFUSE = "refuse"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step, covering units in ``(previous up_to, up_to]``; ``up_to=None`` is open.

    ``flat_fee`` is due once a unit lies in the tier. ``package_size`` sells the tier's units in
    whole packages at ``unit_price`` each. ``maximum`` caps what the tier costs.
    """

    up_to: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None
    package_size: Decimal | None = None
    maximum: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """A fee that does not depend on usage."""

    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """Every unit at one price."""

    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Whole packages of ``size`` units beyond ``free_units``, rounded up."""

    size: Decimal
    package_price: Decimal
    free_units: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated:
    """Each tier prices the units that lie in it."""

    tiers: tuple[Tier, ...]
    flat_fee_when_unused: bool = False
    beyond: Beyond = Beyond.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """All units at the price of the one tier the quantity reaches."""

    tiers: tuple[Tier, ...]
    flat_fee_when_unused: bool = False
    beyond: Beyond = Beyond.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stairstep:
    """The fee of the one band reached, or of all bands up to it when ``cumulative``."""

    tiers: tuple[Tier, ...]
    cumulative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentTier:
    """One step of a graduated percentage, on the amount in ``(previous up_to, up_to]``."""

    up_to: Decimal | None
    percent: Decimal
    flat_fee: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraduatedPercentage:
    """A share of an amount, tier by tier."""

    tiers: tuple[PercentTier, ...]
    flat_fee_when_unused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage:
    """A share of an amount, with a fixed part an event, free units or events, and bounds."""

    percent: Decimal
    fixed: Decimal | None = None
    free_units: Decimal | None = None
    free_events: int | None = None
    event_minimum: Decimal | None = None
    event_maximum: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """A charge for the usage whose dimensions match ``when`` (``*`` matches any value).

    ``when`` is sorted by key.
    """

    when: tuple[tuple[str, str], ...]
    charge: Charge

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """The keys with a value of their own: the matching row with most of them wins."""
        return tuple(pair for pair in self.when if pair[1] != ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A charge chosen by dimensions: the matching row with most named keys wins."""

    rows: tuple[MatrixRow, ...]
    otherwise: Beyond = Beyond.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The price comes in the event: the sum of the values at ``amount``, times ``multiplier``."""

    amount: str
    multiplier: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityTier:
    """A plan that holds up to so much of each meter; ``up_to=None`` holds anything."""

    up_to: tuple[tuple[MeterId, Decimal], ...] | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The first plan that every one of several quantities fits into."""

    tiers: tuple[CapacityTier, ...]


Charge = (
    Flat
    | PerUnit
    | Package
    | Graduated
    | Volume
    | Stairstep
    | GraduatedPercentage
    | Percentage
    | Matrix
    | Dynamic
    | Capacity
)

MODEL_NAMES: dict[str, type[Charge]] = {
    "flat": Flat,
    "per_unit": PerUnit,
    "package": Package,
    "graduated": Graduated,
    "volume": Volume,
    "stairstep": Stairstep,
    "graduated_percentage": GraduatedPercentage,
    "percentage": Percentage,
    "matrix": Matrix,
    "dynamic": Dynamic,
    "capacity": Capacity,
}
"""The name of each model in the catalog's grammar."""
