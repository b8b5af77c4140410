"""Prices, how they are invoiced, and the lists they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from catalog.charges import Charge
from catalog.ids import FeatureId, PricebookId, ProductId

Moment = date | datetime
"""A point in time as written: a date is that day's local midnight in the calendar that reads
it (a contract's time zone, else the service's); a datetime is aware and means itself."""


class Timing(StrEnum):
    """When a billing period is due: at its end, at its start, or once."""

    ARREARS = "arrears"
    ADVANCE = "advance"
    ONCE = "once"


class Anchor(StrEnum):
    """Where billing periods begin: with the contract, with the calendar, or with a month of it.

    ``month`` is the first day of the month the contract begins in (or ``after_months`` later):
    periods are whole months as on the calendar, counted as on the contract.
    """

    CONTRACT = "contract"
    CALENDAR = "calendar"
    MONTH = "month"


class PeriodUnit(StrEnum):
    """What a cadence counts."""

    MONTH = "month"
    WEEK = "week"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoicing:
    """When a price is billed: its timing and the length of its periods.

    ``every`` counts ``unit``; for ``once`` there is a single period. ``after_months`` shifts the
    first period that many months past the contract's start.
    """

    timing: Timing
    every: int = 1
    unit: PeriodUnit = PeriodUnit.MONTH
    anchor: Anchor = Anchor.CONTRACT
    after_months: int = 0


class Prorate(StrEnum):
    """How a partial period counts: not at all, by days, or by seconds."""

    NO = "false"
    DAYS = "days"
    SECONDS = "seconds"


class Rounding(StrEnum):
    """How a converted quantity is rounded to ``digits``."""

    NONE = "none"
    UP = "up"
    DOWN = "down"
    HALF_UP = "half_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Units as priced from units as metered: divide or multiply, then round."""

    divide: Decimal = Decimal(1)
    multiply: Decimal = Decimal(1)
    round: Rounding = Rounding.NONE
    digits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCommitment:
    """A promised quantity or amount of one price, with what is due beyond or short of it."""

    quantity: Decimal | None = None
    amount: Decimal | None = None
    overage_multiplier: Decimal | None = None
    true_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price model instance for one product, and the terms that act inside its line.

    ``id`` names it for overrides (default: the product's id). ``quantity`` replaces metered
    usage by a fixed number. ``invoicing=None`` takes the contract's or pricebook's.
    ``from_period``/``to_period`` bound it to billing periods counted from 1, both inclusive.
    """

    product: ProductId
    charge: Charge
    id: str | None = None
    name: str | None = None
    group_by: tuple[str, ...] = ()
    included: Decimal | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    discount_percent: Decimal | None = None
    quantity: Decimal | None = None
    prorate: Prorate | None = None
    invoicing: Invoicing | None = None
    from_period: int | None = None
    to_period: int | None = None
    effective_from: Moment | None = None
    effective_until: Moment | None = None
    convert: Conversion | None = None
    bucket: str | None = None
    hours: tuple[str, ...] = ()
    tiers_span_months: int | None = None
    commitment: PriceCommitment | None = None

    @property
    def key(self) -> str:
        """What an override names: the price's own id, else its product's."""
        return self.id or self.product


class Limit(StrEnum):
    """Whether a decision may pass the allowance (soft, counted as overage) or not (hard)."""

    HARD = "hard"
    SOFT = "soft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """A right to a feature. Exactly one of ``amount``, ``unlimited``, ``value`` says how much.

    A boolean feature has none of them set but ``value="true"``. ``every_months=None`` grants
    once, for the contract's whole term. ``anchor`` is where its periods begin; with the calendar
    the first one may be short, and has the whole amount all the same.
    """

    feature: FeatureId
    amount: Decimal | None = None
    unlimited: bool = False
    value: str | None = None
    every_months: int | None = None
    limit: Limit = Limit.HARD
    rollover_max: Decimal | None = None
    priority: int = 0
    anchor: Anchor = Anchor.CONTRACT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricebook:
    """A list of prices in one currency, and the allowances that come with them."""

    id: PricebookId
    currency: str
    invoicing: Invoicing
    prices: tuple[Price, ...]
    prorate: Prorate = Prorate.NO
    entitlements: tuple[Entitlement, ...] = field(default=())
