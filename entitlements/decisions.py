"""Check and consume: from a request to the ledger's decision and a durable event.

What the catalog alone answers (boolean and static features, no grant at all) never asks the
ledger. Metered items become slots; the ledger decides all of a request's slots at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from catalog.clock import Clock
from catalog.ids import CustomerId
from entitlements.ports import (
    Demand,
    Gate,
    HoldRequest,
    KeyRecord,
    Ledger,
    LedgerUnavailable,
    Status,
    UsageSink,
    Verdict,
)
from entitlements.requests import Consume, Decision, Item, ItemDecision, KeyReused, Reason
from entitlements.schedules import Schedules
from entitlements.slots import Openings, Planned, PlannedItem, plan
from entitlements.usage import draft, events_of, hold_id, subject_of

STALE_TRIES_MAX = 4
SEEDING_WAIT_S = 1.0
SEEDING_POLL_S = 0.01
"""A new contract's account is filled by the reader within moments: worth a short wait."""

SUBMIT_WITHIN_S = 0.2
"""A hold is followed by its event at once or not at all: a rebuild waits longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A planned request with the ledger's verdict, or why there is none."""

    planned: Planned
    demand: Demand
    verdict: Verdict | None = None
    outage: Reason | None = None


class Decisions:
    """The entitlement engine of one gateway. One event loop; any number of calls at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        schedules: Callable[[], Schedules],
        clock: Clock,
        sink: UsageSink,
    ) -> None:
        self._ledger = ledger
        self._schedules = schedules
        self._clock = clock
        self._sink = sink
        self._openings = Openings(ledger)

    async def check(self, customer: CustomerId, items: Sequence[Item]) -> Decision:
        """Whether the customer may use all of ``items`` now. Nothing is consumed.

        Raises:
            NotFound, InvalidRequest: the customer, a feature or an item is wrong.
        """

        def ask() -> _Asked:
            now = self._clock.now_us()
            planned = plan(self._schedules(), customer, items, now=now)
            demand = Demand(customer=customer, now=now, slots=planned.slots)
            return _Asked(planned=planned, demand=demand)

        return _decision(await self._decided(ask))

    async def consume(self, request: Consume) -> Decision:
        """Use all of the items now, or none. Durable when allowed; exactly once per key.

        A denial leaves nothing behind: the same key may be tried again.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
            KeyReused: the key was used for another request within 24 hours.
        """
        asked_s = time.monotonic()

        def ask() -> _Asked:
            nonlocal asked_s
            asked_s = time.monotonic()
            return self._consumption(request)

        asked = await self._decided(ask)
        record = _record(asked)
        if record is None:
            return _decision(asked)
        if not record.confirmed:
            if time.monotonic() - asked_s > SUBMIT_WITHIN_S:
                return _denied(asked.planned, Reason.LEDGER_UNAVAILABLE)
            if not await self._sink.record(events_of(request.customer, record)):
                return _denied(asked.planned, Reason.RECOVERING)
            if asked.verdict is not None:
                self._ledger.confirm(request.customer, record)
        return _answer(asked.planned, record)

    def _consumption(self, request: Consume) -> _Asked:
        now = self._clock.now_us()
        schedules = self._schedules()
        planned = plan(schedules, request.customer, request.items, now=now)
        uses = planned.uses(request.data)
        subject = subject_of(schedules.catalog, request.customer, request.subject, now)
        hold = HoldRequest(
            key=request.key,
            id=hold_id(request.customer, request.key, now),
            digest=request.digest,
            request=draft(subject, uses),
        )
        demand = Demand(
            customer=request.customer,
            now=now,
            slots=planned.slots,
            hold=hold,
            refused=planned.refused,
        )
        return _Asked(planned=planned, demand=demand)

    async def _decided(self, ask: Callable[[], _Asked]) -> _Asked:
        """Ask until the answer is about the present: openings and schedules may move meanwhile."""
        seeding_until_s = time.monotonic() + SEEDING_WAIT_S
        stale = 0
        while True:
            asked = ask()
            if not asked.planned.slots and asked.demand.hold is None:
                return asked
            try:
                demand = await self._openings.fill(asked.planned, asked.demand)
                verdict = await self._ledger.decide(demand)
            except LedgerUnavailable:
                return _Asked(
                    planned=asked.planned, demand=asked.demand, outage=Reason.LEDGER_UNAVAILABLE
                )
            match verdict.status:
                case Status.DECIDED | Status.KNOWN:
                    return _Asked(planned=asked.planned, demand=demand, verdict=verdict)
                case Status.REUSED:
                    raise KeyReused("the key was used for another request of this customer")
                case Status.STALE if stale < STALE_TRIES_MAX:
                    stale += 1
                    self._openings.forget(demand.customer, asked.planned)
                case Status.UNSEEDED | Status.LOST if not demand.slots:
                    return asked  # no contract, no account: the catalog's denial stands
                case Status.UNSEEDED if time.monotonic() < seeding_until_s:
                    await asyncio.sleep(SEEDING_POLL_S)
                case Status.STALE | Status.UNSEEDED | Status.LOST:
                    return _Asked(planned=asked.planned, demand=demand, outage=Reason.RECOVERING)


def _passes_outage(item: PlannedItem, outage: Reason) -> bool:
    """Soft and unlimited features go on while the ledger recovers; nothing does without it."""
    if item.slot is None:
        return item.reason is None
    return outage is Reason.RECOVERING and item.slot.gate is not Gate.HARD


def _record(asked: _Asked) -> KeyRecord | None:
    """The key's record of a consume that is to go ahead, None where it is denied.

    While the ledger recovers it is made up here: the identity made from the key keeps a retry
    from counting twice, and the reader files it when it gets there.
    """
    hold, outage = asked.demand.hold, asked.outage
    if asked.verdict is not None:
        return asked.verdict.record if asked.verdict.allowed else None
    if hold is None or outage is None:
        return None
    if not all(_passes_outage(item, outage) for item in asked.planned.items):
        return None
    return KeyRecord(
        key=hold.key,
        hold=hold.id,
        digest=hold.digest,
        at=asked.demand.now,
        balances=(None,) * len(asked.demand.slots),
        request=hold.request,
    )


def _answer(planned: Planned, record: KeyRecord) -> Decision:
    """What an allowed consume answers, now and to every retry."""
    items = tuple(
        ItemDecision(
            feature=item.item.feature,
            allowed=True,
            balance=None if left is None else max(0, left),
        )
        for item, left in zip(planned.items, record.balances, strict=True)
    )
    return Decision(allowed=True, items=items)


def _denied(planned: Planned, reason: Reason) -> Decision:
    """A denial of everything, whatever the balances."""
    items = tuple(
        ItemDecision(feature=item.item.feature, allowed=False, reason=reason)
        for item in planned.items
    )
    return Decision(allowed=False, items=items)


def _decision(asked: _Asked) -> Decision:
    """The answer of a check, or of a consume that is denied."""
    verdict = asked.verdict
    places = iter(range(len(asked.demand.slots)))
    results = []
    for item in asked.planned.items:
        if item.slot is not None and verdict is not None:
            results.append(_judged(item, verdict, next(places)))
        elif item.slot is not None and asked.outage is not None:
            passed = _passes_outage(item, asked.outage)
            reason = None if passed else asked.outage
            results.append(ItemDecision(feature=item.item.feature, allowed=passed, reason=reason))
        else:
            balance = 0 if item.reading is not None else None
            results.append(
                ItemDecision(
                    feature=item.item.feature,
                    allowed=item.reason is None,
                    balance=balance,
                    reason=item.reason,
                )
            )
    return Decision(allowed=all(result.allowed for result in results), items=tuple(results))


def _judged(item: PlannedItem, verdict: Verdict, place: int) -> ItemDecision:
    assert item.slot is not None
    unlimited = item.slot.gate is Gate.UNLIMITED
    passed = verdict.passed[place]
    return ItemDecision(
        feature=item.item.feature,
        allowed=passed,
        balance=None if unlimited else max(0, verdict.left[place]),
        reason=None if passed else Reason.INSUFFICIENT,
    )
