"""From a request's items to the ledger's slots: what the catalog says about them at one instant."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from catalog.clock import Micros
from catalog.errors import InvalidRequest, NotFound
from catalog.ids import CustomerId, FeatureId
from catalog.meters import Aggregation
from catalog.products import Feature, FeatureKind
from entitlements import burndown
from entitlements.amounts import UNIT
from entitlements.grants import Schedule, Segment
from entitlements.ports import Account, Demand, Gate, Ledger, Slot
from entitlements.requests import Item, Reason
from entitlements.schedules import Reading, Schedules
from entitlements.usage import COUNT_MAX, NotConsumable, Use

OPENINGS_MAX = 100_000
UNKNOWN_VERSION = -1
"""No account has it: the ledger answers that the opening is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedItem:
    """An item with its slot, or, without one, what the catalog alone decides."""

    item: Item
    slot: Slot | None = None
    reason: Reason | None = None
    reading: Reading | None = None
    history: tuple[Segment, ...] = ()
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A request's items, planned at one instant."""

    items: tuple[PlannedItem, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in the order of the items that have one."""
        return tuple(item.slot for item in self.items if item.slot is not None)

    @property
    def refused(self) -> bool:
        """Whether the catalog alone denies an item."""
        return any(item.reason is not None for item in self.items)

    def uses(self, data: Mapping[str, object]) -> list[Use]:
        """What a consume of these items records.

        Raises:
            NotConsumable: an item is not counted by a meter.
            InvalidRequest: zero, or not so many whole events on a count meter.
        """
        return [use_of(planned.item, planned.reading, data) for planned in self.items]


def plan(
    schedules: Schedules, customer: CustomerId, items: Sequence[Item], *, now: Micros
) -> Planned:
    """What the catalog says of ``items`` at ``now``.

    Raises:
        NotFound: the customer or a feature is not in the catalog.
        NotConsumable: a metered feature whose meter does not add up event by event.
    """
    if customer not in schedules.catalog.customers:
        raise NotFound(f"no customer {customer!r}")
    if not items:
        raise InvalidRequest("items is empty")
    return Planned(items=tuple(_plan(schedules, customer, item, now) for item in items))


def _plan(schedules: Schedules, customer: CustomerId, item: Item, now: Micros) -> PlannedItem:
    feature = known_feature(schedules, item.feature, now)
    schedule = schedules.of(customer).get(item.feature)
    segment = schedule.segment_at(now) if schedule else None
    reading = schedules.reading_at(item.feature, now)
    if schedule is None or segment is None or not segment.grants:
        return PlannedItem(item=item, reason=absence(schedule, now), reading=reading)
    if feature.kind is not FeatureKind.METERED:
        return PlannedItem(
            item=item, reason=None if grants_access(schedule, now) else Reason.NO_ENTITLEMENT
        )
    slot = Slot(
        feature=item.feature,
        schedule=schedule.digest,
        segment=segment.start,
        gate=gate_of(segment),
        opening=sum(grant.amount for grant in segment.grants),
        amount=item.amount,
    )
    history = () if segment.unlimited else schedule.history(now)
    return PlannedItem(item=item, slot=slot, reading=reading, history=history, schedule=schedule)


def known_feature(schedules: Schedules, feature: FeatureId, now: Micros) -> Feature:
    """The feature as it is at ``now``.

    Raises:
        NotFound: it is not in the catalog.
        NotConsumable: it is metered, and its meter does not add up event by event.
    """
    found = schedules.feature_at(feature, now)
    if found is None:
        raise NotFound(f"no feature {feature!r}")
    if found.kind is FeatureKind.METERED:
        reading = schedules.reading_at(feature, now)
        if reading is None or not reading.additive:
            raise NotConsumable(f"{feature}'s meter is neither a sum nor a count")
    return found


def absence(schedule: Schedule | None, now: int) -> Reason:
    """Why there is no grant: there was one before, or never."""
    begun = schedule is not None and schedule.stretches[0].since <= now
    return Reason.EXPIRED if begun else Reason.NO_ENTITLEMENT


def grants_access(schedule: Schedule, now: int) -> bool:
    """Whether a boolean or static feature is there: some active value that is not ``false``."""
    value = static_value(schedule, now)
    return value is not None and value != "false"


def static_value(schedule: Schedule, now: int) -> str | None:
    """The value in force; of several the one of lowest priority number, ``false`` last."""
    terms = [
        term
        for stretch in schedule.stretches
        if stretch.since <= now < stretch.until
        for term in stretch.terms
    ]
    terms.sort(key=lambda t: (t.entitlement.value == "false", t.entitlement.priority, t.start))
    return terms[0].entitlement.value if terms else None


def gate_of(segment: Segment) -> Gate:
    """How a segment's grants bind together: the most generous one wins."""
    if segment.unlimited:
        return Gate.UNLIMITED
    return Gate.SOFT if segment.soft else Gate.HARD


def use_of(item: Item, reading: Reading | None, data: Mapping[str, object]) -> Use:
    """What recording an item means, on the meter that reads it.

    Raises:
        NotConsumable: no sum or count meter reads it.
        InvalidRequest: zero, or not so many whole events on a count meter.
    """
    if reading is None or not reading.additive:
        raise NotConsumable(f"{item.feature} is not counted by a sum or count meter")
    if item.amount <= 0:
        raise InvalidRequest(f"{item.feature}: the amount to consume must be above zero")
    counts = reading.meter.aggregation is Aggregation.COUNT
    if counts and (item.amount % UNIT or item.amount > COUNT_MAX * UNIT):
        raise InvalidRequest(f"{item.feature} counts events: whole amounts up to {COUNT_MAX:,}")
    return Use(reading=reading, amount=item.amount, dimensions=item.dimensions, data=data)


@dataclass(frozen=True, slots=True)
class _Opening:
    schedule: Schedule
    segment: Micros
    available: int
    version: int


class Openings:
    """What was available when a segment opened, where earlier usage bears on it.

    Remembered with the ledger's version of that earlier usage; the ledger refuses an outdated one.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: OrderedDict[tuple[CustomerId, FeatureId], _Opening] = OrderedDict()

    async def fill(self, planned: Planned, demand: Demand) -> Demand:
        """``demand`` with the openings of slots that have a history.

        Raises:
            LedgerUnavailable: the account could not be read.
        """
        items = [item for item in planned.items if item.slot is not None]
        if all(len(item.history) < 2 for item in items):
            return demand
        account: Account | None = None
        slots = []
        for item in items:
            assert item.slot is not None
            if len(item.history) >= 2 and not self._holds(demand.customer, item):
                account = account or await self._ledger.account(demand.customer, now=demand.now)
                self._remember(demand.customer, item, account)
            slots.append(self._filled(demand.customer, item, item.slot))
        return replace(demand, slots=tuple(slots))

    def forget(self, customer: CustomerId, planned: Planned) -> None:
        """Drop what turned out to be outdated."""
        for item in planned.items:
            self._known.pop((customer, item.item.feature), None)

    def _holds(self, customer: CustomerId, item: PlannedItem) -> bool:
        known = self._known.get((customer, item.item.feature))
        return (
            known is not None
            and known.schedule is item.schedule
            and known.segment == item.history[-1].start
        )

    def _remember(self, customer: CustomerId, item: PlannedItem, account: Account | None) -> None:
        if account is None or item.schedule is None:
            return
        feature = item.item.feature
        # What an earlier segment still holds may yet be used there: it is not available here.
        totals: dict[int, int] = {
            segment.start: account.totals.get((feature, segment.start), 0)
            + account.held.get((feature, segment.start), 0)
            for segment in item.history
        }
        self._known[customer, feature] = _Opening(
            schedule=item.schedule,
            segment=item.history[-1].start,
            available=burndown.opening(item.history, totals).available,
            version=account.versions.get(feature, 0),
        )
        if len(self._known) > OPENINGS_MAX:
            self._known.popitem(last=False)

    def _filled(self, customer: CustomerId, item: PlannedItem, slot: Slot) -> Slot:
        if len(item.history) < 2:
            return slot
        known = self._known.get((customer, slot.feature))
        if known is None:
            return replace(slot, version=UNKNOWN_VERSION)
        return replace(slot, opening=known.available, version=known.version)
