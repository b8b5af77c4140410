"""From what was planned and what the ledger said to the answer, the ledger's silence included."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import msgspec

from catalog.ids import FeatureId
from entitlements.ports import Demand, Gate, KeyRecord, Verdict
from entitlements.requests import Decision, Item, ItemDecision, Reason
from entitlements.slots import Planned, PlannedItem


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A planned request with the ledger's verdict, or why there is none."""

    planned: Planned
    demand: Demand
    verdict: Verdict | None = None
    outage: Reason | None = None


class Answers:
    """What a check, or a request that is denied, answers."""

    def __init__(self, allowed_without_ledger: Collection[FeatureId]) -> None:
        """Wire it: ``allowed_without_ledger`` are hard limits that let pass in an outage."""
        self._open_minded = frozenset(allowed_without_ledger)

    def passes_outage(self, item: PlannedItem, outage: Reason) -> bool:
        """Soft and unlimited features go on without the ledger; hard ones that are named, too.

        While the ledger is merely being rebuilt, every hard limit waits for it.
        """
        if item.slot is None:
            return item.standing.reason is None
        if item.slot.gate is not Gate.HARD:
            return True
        return outage is not Reason.RECOVERING and item.item.feature in self._open_minded

    def decision(
        self, planned: Planned, verdict: Verdict | None, outage: Reason | None
    ) -> Decision:
        """The decision of a check; with neither verdict nor outage the catalog's alone."""
        place, allowed = 0, True
        results = []
        for item in planned.items:
            if item.slot is None or (verdict is None and outage is None):
                result = _from_catalog(item)
            elif verdict is not None:
                result = _judged(item, verdict, place)
                place += 1
            else:
                passed = self.passes_outage(item, cast("Reason", outage))
                reason = None if passed else outage
                result = ItemDecision(feature=item.item.feature, allowed=passed, reason=reason)
            allowed = allowed and result.allowed
            results.append(result)
        return Decision(allowed=allowed, items=results)


def answer(planned: Planned, record: KeyRecord) -> Decision:
    """What an allowed consume or reserve answers, now and to every retry."""
    items = tuple(
        ItemDecision(
            feature=item.item.feature,
            allowed=True,
            balance=None if left is None else max(0, left),
        )
        for item, left in zip(planned.items, record.balances, strict=True)
    )
    return Decision(allowed=True, items=items)


def unknown_customer(items: Sequence[Item]) -> Decision:
    """The denial of a customer nobody knows: one of many that are checked at once."""
    denials = [
        ItemDecision(feature=item.feature, allowed=False, reason=Reason.NO_ENTITLEMENT)
        for item in items
    ]
    return Decision(allowed=False, items=denials)


def denied(planned: Planned, reason: Reason) -> Decision:
    """A denial of everything, whatever the balances."""
    items = tuple(
        ItemDecision(feature=item.item.feature, allowed=False, reason=reason)
        for item in planned.items
    )
    return Decision(allowed=False, items=items)


def _from_catalog(item: PlannedItem) -> ItemDecision:
    reason = item.standing.reason
    return ItemDecision(
        feature=item.item.feature,
        allowed=reason is None,
        balance=0 if item.standing.reading is not None else None,
        reason=reason,
    )


def _judged(item: PlannedItem, verdict: Verdict, place: int) -> ItemDecision:
    assert item.slot is not None
    passed, left = verdict.passed[place], verdict.left[place]
    return ItemDecision(
        feature=item.item.feature,
        allowed=passed,
        balance=None if item.slot.gate is Gate.UNLIMITED else max(0, left),
        reason=None if passed else Reason.INSUFFICIENT,
    )
