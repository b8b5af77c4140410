"""From a request's items to the ledger's slots: what the catalog says about them at one instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from catalog.clock import Micros
from catalog.errors import InvalidRequest, NotFound
from catalog.ids import FeatureId
from catalog.meters import Aggregation
from catalog.products import Feature, FeatureKind
from entitlements.amounts import UNIT
from entitlements.grants import Schedule, Segment
from entitlements.ports import Gate, Slot
from entitlements.requests import Item, Reason
from entitlements.schedules import Reading, Schedules
from entitlements.usage import COUNT_MAX, NotConsumable, Use


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog says of one feature of a customer, in ``[since, until)``.

    ``slot`` is of nothing yet; null where the catalog alone decides: ``reason`` is why not.
    """

    since: Micros
    until: Micros
    slot: Slot | None = None
    reason: Reason | None = None
    reading: Reading | None = None
    history: tuple[Segment, ...] = ()
    schedule: Schedule | None = None

    def with_item(self, item: Item) -> PlannedItem:
        """An item of the feature, with a slot for its amount."""
        known = self.slot
        if known is None:
            return PlannedItem(item=item, standing=self)
        slot = Slot(
            feature=known.feature,
            schedule=known.schedule,
            segment=known.segment,
            gate=known.gate,
            opening=known.opening,
            amount=item.amount,
        )
        return PlannedItem(item=item, standing=self, slot=slot)


class PlannedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item with its slot, or, without one, what the catalog alone decides."""

    item: Item
    standing: Standing
    slot: Slot | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A request's items, planned at one instant."""

    items: Sequence[PlannedItem]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in the order of the items that have one."""
        return tuple([item.slot for item in self.items if item.slot is not None])

    @property
    def refused(self) -> bool:
        """Whether the catalog alone denies an item."""
        return any(item.standing.reason is not None for item in self.items)

    def uses(self, data: Mapping[str, object]) -> list[Use]:
        """What a consume of these items records.

        Raises:
            NotConsumable: an item is not counted by a meter.
            InvalidRequest: zero, or not so many whole events on a count meter.
        """
        return [use_of(planned.item, planned.standing.reading, data) for planned in self.items]


def known_feature(
    schedules: Schedules, feature: FeatureId, now: Micros
) -> tuple[Feature, Micros, Micros]:
    """The feature as it is at ``now``, and since and until when it is so.

    Raises:
        NotFound: it is not in the catalog.
        NotConsumable: it is metered, and its meter does not add up event by event.
    """
    known = schedules.feature_span(feature, now)
    if known is None:
        raise NotFound(f"no feature {feature!r}")
    if known[0].kind is FeatureKind.METERED:
        reading = schedules.reading_at(feature, now)
        if reading is None or not reading.additive:
            raise NotConsumable(f"{feature}'s meter is neither a sum nor a count")
    return known


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
