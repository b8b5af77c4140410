"""Where an adjustment goes: the contract's first open billing period of the line's timing.

A contract that has none left (it ended, or bills once) gets the first open month instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from catalog.clock import Micros, to_datetime
from catalog.ids import ContractId
from catalog.indexed import PerCatalog
from catalog.periods import FOREVER, Period, PeriodSpec, local_date
from catalog.pricebooks import Timing
from catalog.snapshot import Catalog, midnight
from rating.plan import Chosen, plan_lines
from rating.timeline import Term

DAY_US = 86_400_000_000
HORIZONS_DAYS = (70, 400, 1_200, 4_000)
"""How far ahead periods are looked for, in turns: months, years, then the longest cadences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A billing period and the day it counts on."""

    billing_start: datetime
    billing_end: datetime | None
    accounting_date: date


IsOpen = Callable[[str, str, Place], bool]
"""Whether no document of a contract's billing period of a timing was issued."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Billing periods that meet ``[since, until)`` and count on ``first`` or later."""

    since: Micros
    until: Micros
    first: date

    def of(self, term: Term) -> Chosen:
        """The same for every contract."""
        del term
        return self

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """The interval."""
        del term
        return self.since, self.until

    def wants(self, period: Period, accounting: date) -> bool:
        """Begun or not: an adjustment waits for the period."""
        del period
        return accounting >= self.first


class Placement:
    """Finds places, one for each contract and timing that needs one."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        first_open: date,
        is_open: IsOpen,
    ) -> None:
        self._catalog = catalog
        self._first_open = first_open
        self._is_open = is_open

    def find(self, wanted: Collection[tuple[str, str, date]]) -> dict[tuple[str, str], Place]:
        """The place for each (contract, timing, earliest accounting date of what is adjusted)."""
        found: dict[tuple[str, str], Place] = {}
        missing = {(contract, timing): day for contract, timing, day in wanted}
        for horizon in HORIZONS_DAYS:
            if not missing:
                return found
            for key, place in self._planned(missing, horizon):
                if key not in found or place.accounting_date < found[key].accounting_date:
                    found[key] = place
            missing = {key: day for key, day in missing.items() if key not in found}
        return found | {key: self._month(*key, day) for key, day in missing.items()}

    def _planned(
        self, missing: dict[tuple[str, str], date], horizon: int
    ) -> Iterator[tuple[tuple[str, str], Place]]:
        first = max(self._first_open, min(missing.values()))
        since = midnight(first, ZoneInfo("UTC")) - DAY_US
        ahead = _Ahead(Micros(since), Micros(since + horizon * DAY_US), first)
        plans = plan_lines(self._catalog, ahead, contracts={contract for contract, _ in missing})
        seen: set[tuple[str, str, Micros, Micros, date]] = set()
        for plan in plans:
            key = (str(plan.contract), plan.terms.invoicing.timing.value)
            exact = (*key, plan.period.start, plan.period.end, plan.accounting)
            if key not in missing or plan.accounting < missing[key] or exact in seen:
                continue
            seen.add(exact)
            place = _place(plan.period.start, plan.period.end, plan.accounting)
            if plan.period.end < FOREVER and self._is_open(*key, place):
                yield key, place

    def _month(self, contract: str, timing: str, day: date) -> Place:
        """The first open month on the contract's calendar."""
        zone = self._zone(contract)
        for month in _months(max(self._first_open, day)):
            until = PeriodSpec.parse(f"{month:%Y-%m}").until
            last = month if timing == Timing.ADVANCE else until - timedelta(days=1)
            place = _place(midnight(month, zone), midnight(until, zone), last)
            if self._is_open(contract, timing, place):
                return place
        raise AssertionError("every month is taken")

    def _zone(self, contract: str) -> ZoneInfo:
        chain = self._catalog.contracts.get(ContractId(contract))
        named = chain.last.timezone if chain and chain.versions else None
        return ZoneInfo(named) if named else self._catalog.timezone


def _place(start: Micros, end: Micros, accounting: date) -> Place:
    return Place(
        billing_start=to_datetime(start),
        billing_end=None if end >= FOREVER else to_datetime(end),
        accounting_date=accounting,
    )


def _months(day: date) -> Iterable[date]:
    """First days of the month of ``day`` and those after it, for a hundred years."""
    first = day.year * 12 + day.month - 1
    return (date(index // 12, index % 12 + 1, 1) for index in range(first, first + 1_200))


def _zones(catalog: Catalog) -> frozenset[ZoneInfo]:
    named = {chain.last.timezone for chain in catalog.contracts.values() if chain.versions}
    return frozenset({catalog.timezone, *(ZoneInfo(name) for name in named if name)})


zones_of = PerCatalog(_zones)
"""Every calendar that contracts bill by: each contract's is that of its last version."""


def latest_day(catalog: Catalog, instant: Micros) -> date:
    """The latest calendar day that ``instant`` is anywhere the contracts bill."""
    return max(local_date(instant, zone) for zone in zones_of(catalog))


def last_midnight(catalog: Catalog, day: date) -> Micros:
    """The instant by which ``day`` has begun wherever the contracts bill."""
    return max(midnight(day, zone) for zone in zones_of(catalog))
