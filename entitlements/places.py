"""What the catalog says of a customer's features, remembered for as long as it holds.

Working it out costs more than the ledger's decision. It depends on the catalog, the grants and the
instant only, so it is kept with the stretch of time it holds in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from catalog.clock import Micros
from catalog.errors import InvalidRequest, NotFound
from catalog.ids import CustomerId, FeatureId
from catalog.products import FeatureKind
from entitlements.ports import Slot
from entitlements.requests import Item, Reason
from entitlements.schedules import Reading, Schedules
from entitlements.slots import (
    Planned,
    Standing,
    absence,
    gate_of,
    grants_access,
    known_feature,
)
from entitlements.usage import Claim, claim_of

CUSTOMERS_MAX = 200_000
"""Customers whose places are remembered; beyond that all are forgotten, and found again."""


class _Customer(msgspec.Struct):
    standings: dict[FeatureId, Standing] = {}
    claim: Claim | None = None


class Places:
    """Plans requests under the current schedules. One event loop."""

    def __init__(self, schedules: Callable[[], Schedules]) -> None:
        self._current = schedules
        self._schedules = schedules()
        self._known: dict[CustomerId, _Customer] = {}
        self._edition = 0

    @property
    def edition(self) -> int:
        """Another number whenever the schedules are others."""
        self._follow()
        return self._edition

    @property
    def schedules(self) -> Schedules:
        """The schedules that plans are made under."""
        self._follow()
        return self._schedules

    def plan(self, customer: CustomerId, items: Sequence[Item], *, now: Micros) -> Planned:
        """What the catalog says of ``items`` at ``now``.

        Raises:
            NotFound: the customer or a feature is not in the catalog.
            NotConsumable: a metered feature whose meter does not add up event by event.
        """
        schedules = self.schedules
        known = self._known.get(customer) or self._met(schedules, customer)
        planned = []
        for item in items:
            standing = known.standings.get(item.feature)
            if standing is None or not standing.since <= now < standing.until:
                standing = _standing(schedules, customer, item.feature, now)
                known.standings[item.feature] = standing
            planned.append(standing.with_item(item))
        if not planned:
            raise InvalidRequest("items is empty")
        return Planned(items=planned)

    def subject(self, customer: CustomerId, asked: str | None, now: Micros) -> str:
        """The subject a reserve is recorded for: the one asked for, else the first valid one.

        Raises:
            NotFound: no such customer.
            InvalidRequest: the subject is not the customer's now, or there is none.
        """
        return self.claim(customer, now).subject(asked)

    def claim(self, customer: CustomerId, now: Micros) -> Claim:
        """The subjects of a customer now, and how long those are so.

        Raises:
            NotFound: no such customer.
        """
        schedules = self.schedules
        known = self._known.get(customer) or self._met(schedules, customer)
        claim = known.claim
        if claim is None or not claim.since <= now < claim.until:
            claim = known.claim = claim_of(schedules.catalog, customer, now)
        return claim

    def _met(self, schedules: Schedules, customer: CustomerId) -> _Customer:
        if customer not in schedules.catalog.customers:
            raise NotFound(f"no customer {customer!r}")
        if len(self._known) >= CUSTOMERS_MAX:
            self._known.clear()
        found = self._known[customer] = _Customer()
        return found

    def _follow(self) -> None:
        """Take the current schedules, and forget what may be otherwise under them."""
        schedules = self._current()
        if schedules is self._schedules:
            return
        changed = schedules.changed_since(self._schedules)
        if changed is None:
            self._known.clear()
        else:
            for customer in changed:
                self._known.pop(customer, None)
        self._schedules = schedules
        self._edition += 1


def _standing(schedules: Schedules, customer: CustomerId, name: FeatureId, now: Micros) -> Standing:
    feature, since, until = known_feature(schedules, name, now)
    schedule = schedules.of(customer).get(name)
    segment = schedule.segment_at(now) if schedule else None
    reading = schedules.reading_at(name, now)
    if schedule is None or segment is None or not segment.grants:
        # Where there is no schedule at all, only another catalog brings one.
        ends = until if schedule is None else now
        return Standing(since=since, until=ends, reason=absence(schedule, now), reading=reading)
    since, until = max(since, segment.start), min(until, segment.end)
    if feature.kind is not FeatureKind.METERED:
        reason = None if grants_access(schedule, now) else Reason.NO_ENTITLEMENT
        return Standing(since=since, until=until, reason=reason)
    since, until = _within(reading, since, until)
    slot = Slot(
        feature=name,
        schedule=schedule.digest,
        segment=segment.start,
        gate=gate_of(segment),
        opening=sum(grant.amount for grant in segment.grants),
        amount=0,
    )
    return Standing(
        since=since,
        until=until,
        slot=slot,
        reading=reading,
        history=() if segment.unlimited else schedule.history(now),
        schedule=schedule,
    )


def _within(reading: Reading | None, since: Micros, until: Micros) -> tuple[Micros, Micros]:
    if reading is None:
        return since, until
    return max(since, reading.since), min(until, reading.until)
