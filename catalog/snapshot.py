"""The catalog as it stood at one recorded instant: what every engine reads.

Every object is a chain of versions over effective time. Chains are built from an append-only
list of statements (:mod:`catalog.history`), so an older ``recorded_at`` gives the older catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from catalog.clock import Micros, to_micros
from catalog.contracts import Contract, Customer
from catalog.ids import (
    ContractId,
    CustomerId,
    FeatureId,
    JurisdictionId,
    MeterId,
    PricebookId,
    ProductId,
)
from catalog.meters import Meter
from catalog.pricebooks import Moment, Pricebook
from catalog.products import Feature, Product
from catalog.taxes import TaxTable

T = TypeVar("T")


def resolve(moment: Moment, timezone: ZoneInfo) -> Micros:
    """``moment`` as an instant: a date is its local midnight in ``timezone``.

    A midnight that daylight saving skips is the first instant after the gap; one that happens
    twice is the first.
    """
    if isinstance(moment, datetime):
        return to_micros(moment)
    return to_micros(datetime.combine(moment, time(), tzinfo=timezone))


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Generic[T]):
    """One link of a chain: ``value`` holds in ``[effective_from, effective_until)``.

    Null bounds are open. ``recorded_at`` and ``revision`` say when it was stated.
    """

    value: T
    effective_from: Moment | None
    effective_until: Moment | None
    recorded_at: Micros
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Generic[T]):
    """The versions of one object in order of effective time, never overlapping, maybe with gaps."""

    versions: tuple[Version[T], ...]

    def at(self, instant: int, timezone: ZoneInfo) -> T | None:
        """The value in force at ``instant``, or None in a gap."""
        for version in self.versions:
            since, until = version.effective_from, version.effective_until
            begun = since is None or resolve(since, timezone) <= instant
            if begun and (until is None or instant < resolve(until, timezone)):
                return version.value
        return None

    @property
    def values(self) -> tuple[T, ...]:
        """Every value that ever holds, in order of effective time."""
        return tuple(version.value for version in self.versions)

    @property
    def last(self) -> T:
        """The value of the latest effective version: what a reader without a date is shown."""
        return self.versions[-1].value


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All chains as recorded up to one instant. Immutable; share it freely.

    ``revision`` counts statements (0: empty); equal revisions are equal catalogs. ``timezone`` is
    the service's (``TALLYMAN_TIMEZONE``), the calendar of whatever names none.
    """

    revision: int = 0
    recorded_at: Micros = Micros(0)
    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    meters: Mapping[MeterId, Chain[Meter]] = field(default_factory=dict)
    features: Mapping[FeatureId, Chain[Feature]] = field(default_factory=dict)
    products: Mapping[ProductId, Chain[Product]] = field(default_factory=dict)
    pricebooks: Mapping[PricebookId, Chain[Pricebook]] = field(default_factory=dict)
    customers: Mapping[CustomerId, Chain[Customer]] = field(default_factory=dict)
    contracts: Mapping[ContractId, Chain[Contract]] = field(default_factory=dict)
    taxes: Mapping[JurisdictionId, Chain[TaxTable]] = field(default_factory=dict)


def midnight(day: date, timezone: ZoneInfo) -> Micros:
    """The first instant of ``day`` in ``timezone``."""
    return resolve(day, timezone)
