"""What was available when a segment opened, where earlier usage bears on it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from msgspec.structs import replace

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from entitlements import burndown
from entitlements.grants import Schedule
from entitlements.ports import Account, Demand, Ledger, Slot
from entitlements.slots import Planned, PlannedItem

OPENINGS_MAX = 100_000
UNKNOWN_VERSION = -1
"""No account has it: the ledger answers that the opening is out of date."""


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
        account: Account | None = None
        for item in planned.items:
            if not self._holds(demand.customer, item):
                account = account or await self._ledger.account(demand.customer, now=demand.now)
                self._remember(demand.customer, item, account)
        return self._filled(planned, demand)

    def at_once(self, planned: Planned, demand: Demand) -> Demand | None:
        """``demand`` with the openings, null where the account must be read for one."""
        if all(self._holds(demand.customer, item) for item in planned.items):
            return self._filled(planned, demand)
        return None

    def forget(self, customer: CustomerId, planned: Planned) -> None:
        """Drop what turned out to be outdated."""
        for item in planned.items:
            self._known.pop((customer, item.item.feature), None)

    def _holds(self, customer: CustomerId, item: PlannedItem) -> bool:
        standing = item.standing
        if len(standing.history) < 2:
            return True  # nothing earlier bears on it
        known = self._known.get((customer, item.item.feature))
        return (
            known is not None
            and known.schedule is standing.schedule
            and known.segment == standing.history[-1].start
        )

    def _remember(self, customer: CustomerId, item: PlannedItem, account: Account | None) -> None:
        if account is None or item.standing.schedule is None:
            return
        feature = item.item.feature
        # What an earlier segment still holds may yet be used there: it is not available here.
        totals: dict[int, int] = {
            segment.start: account.totals.get((feature, segment.start), 0)
            + account.held.get((feature, segment.start), 0)
            for segment in item.standing.history
        }
        self._known[customer, feature] = _Opening(
            schedule=item.standing.schedule,
            segment=item.standing.history[-1].start,
            available=burndown.opening(item.standing.history, totals).available,
            version=account.versions.get(feature, 0),
        )
        if len(self._known) > OPENINGS_MAX:
            self._known.popitem(last=False)

    def _filled(self, planned: Planned, demand: Demand) -> Demand:
        if all(len(item.standing.history) < 2 for item in planned.items):
            return demand
        slots = tuple(
            self._opened(demand.customer, item, item.slot)
            for item in planned.items
            if item.slot is not None
        )
        return replace(demand, slots=slots)

    def _opened(self, customer: CustomerId, item: PlannedItem, slot: Slot) -> Slot:
        if len(item.standing.history) < 2:
            return slot
        known = self._known.get((customer, slot.feature))
        if known is None:
            return replace(slot, version=UNKNOWN_VERSION)
        return replace(slot, opening=known.available, version=known.version)
