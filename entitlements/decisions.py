"""Check, consume and reserve: from a request to the ledger's decision and a durable record.

What the catalog alone answers (boolean and static features, no grant at all) never asks the
ledger. Metered items become slots; the ledger decides all of a request's slots at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import msgspec
from msgspec.structs import replace

from catalog.clock import Clock, Micros
from catalog.ids import CustomerId, FeatureId
from entitlements.holds import draft_hold, hold_entry
from entitlements.openings import Openings
from entitlements.patience import SUBMIT_WITHIN_S, Patience
from entitlements.places import Places
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
from entitlements.requests import (
    Consume,
    Decision,
    Item,
    ItemDecision,
    KeyReused,
    Reason,
    Reserve,
    Reserved,
)
from entitlements.schedules import Schedules
from entitlements.slots import Planned, PlannedItem, known_feature
from entitlements.usage import draft, events_of, hold_id, reservation_id

Ask = Callable[[Micros], "_Asked"]
"""Plans a request at an instant."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A planned request with the ledger's verdict, or why there is none."""

    planned: Planned
    demand: Demand
    verdict: Verdict | None = None
    outage: Reason | None = None


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks, planned; a plan is null where it could not be made yet."""

    asked: Sequence[tuple[CustomerId, Sequence[Item]]]
    plans: Sequence[_Asked | None]


class Decisions:
    """The entitlement engine of one gateway. One event loop; any number of calls at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        schedules: Callable[[], Schedules],
        clock: Clock,
        sink: UsageSink,
        allowed_without_ledger: frozenset[FeatureId] = frozenset(),
        submit_within_s: float = SUBMIT_WITHIN_S,
    ) -> None:
        """Wire the engine.

        Args:
            ledger: decides.
            schedules: the current catalog's.
            clock: the service's.
            sink: the gateway's log.
            allowed_without_ledger: hard limits that let pass while the ledger is slow or away.
                What is allowed is in the log, and counts when the ledger is back.
            submit_within_s: how late the log may be asked after the ledger: a rebuild waits longer.
        """
        self._submit_within_s = submit_within_s
        self._ledger = ledger
        self._places = Places(schedules)
        self._clock = clock
        self._sink = sink
        self._openings = Openings(ledger)
        self._open_minded = allowed_without_ledger

    async def check(self, customer: CustomerId, items: Sequence[Item]) -> Decision:
        """Whether the customer may use all of ``items`` now: see :meth:`check_all`."""
        return (await self.check_all([(customer, items)]))[0]

    async def check_all(self, asked: Sequence[tuple[CustomerId, Sequence[Item]]]) -> list[Decision]:
        """Whether each customer may use all of its items now, in order. Nothing is consumed.

        A customer that is not in the catalog is denied: it has no entitlement.

        Raises:
            NotFound, InvalidRequest, NotConsumable: a feature or an item is wrong.
        """
        checks = self.plan_checks(asked)
        [decided] = await self.decide_checks([checks])
        return await self.finish_checks(checks, decided)

    def plan_checks(self, asked: Sequence[tuple[CustomerId, Sequence[Item]]]) -> Checks:
        """The first third of :meth:`check_all`, for those who gather several of them.

        Raises:
            NotFound, InvalidRequest, NotConsumable: as there.
        """
        now = self._clock.now_us()
        plans = [self._question(customer, items, now) for customer, items in asked]
        return Checks(asked=asked, plans=plans)

    async def decide_checks(self, many: Sequence[Checks]) -> list[list[Decision | None]]:
        """The second: asks the ledger once, for all of them. Null is what must be asked again."""
        plans = [plan for checks in many for plan in checks.plans]
        ready = [plan for plan in plans if plan is not None and plan.demand.slots]
        verdicts: Sequence[Verdict | None] = [None] * len(ready)
        with suppress(LedgerUnavailable):  # then none has a verdict
            verdicts = await self._ledger.decide_all([plan.demand for plan in ready])
        found = iter(verdicts)
        decisions: list[list[Decision | None]] = []
        for checks in many:
            decisions.append([])
            for plan in checks.plans:
                asks = plan is not None and bool(plan.demand.slots)
                verdict = next(found) if asks else None
                outage = Reason.LEDGER_UNAVAILABLE if asks and verdict is None else None
                decisions[-1].append(self._at_once(plan, verdict, outage))
        return decisions

    async def finish_checks(
        self, checks: Checks, decided: Sequence[Decision | None]
    ) -> list[Decision]:
        """The last: asks again, each on its own, for what was asked too early or not at all."""
        return [
            await self._checked(customer, items) if decision is None else decision
            for (customer, items), decision in zip(checks.asked, decided, strict=True)
        ]

    def _at_once(
        self, plan: _Asked | None, verdict: Verdict | None, outage: Reason | None
    ) -> Decision | None:
        if plan is None:
            return None
        if verdict is not None and verdict.status is not Status.DECIDED:
            return None
        return self._decision(
            _Asked(planned=plan.planned, demand=plan.demand, verdict=verdict, outage=outage)
        )

    def _question(self, customer: CustomerId, items: Sequence[Item], now: Micros) -> _Asked | None:
        """A check that can be asked at once; null where the customer, or an opening, is unknown."""
        schedules = self._places.schedules
        if customer not in schedules.catalog.customers:
            for item in items:
                known_feature(schedules, item.feature, now)
            return None
        planned = self._places.plan(customer, items, now=now)
        demand = Demand(customer=customer, now=now, slots=planned.slots)
        filled = self._openings.at_once(planned, demand)
        return None if filled is None else _Asked(planned=planned, demand=filled)

    async def _checked(self, customer: CustomerId, items: Sequence[Item]) -> Decision:
        """The decision of one check, asked until it is about the present."""
        if customer not in self._places.schedules.catalog.customers:
            return _unknown_customer(items)

        def ask(now: Micros) -> _Asked:
            planned = self._places.plan(customer, items, now=now)
            demand = Demand(customer=customer, now=now, slots=planned.slots)
            return _Asked(planned=planned, demand=demand)

        return self._decision(await self._decided(ask, Patience()))

    async def consume(self, request: Consume) -> Decision:
        """Use all of the items now, or none. Durable when allowed; exactly once per key.

        A denial leaves nothing behind: the same key may be tried again.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
            KeyReused: the key was used for another request within 24 hours.
        """
        patience = Patience()
        asked = await self._decided(lambda now: self._consumption(request, now), patience)
        record = self._record(asked)
        if record is None:
            return self._decision(asked)
        if not record.confirmed:
            if not self._in_time(record, patience):
                return _denied(asked.planned, Reason.LEDGER_UNAVAILABLE)
            if not await self._sink.record(events_of(request.customer, record)):
                return _denied(asked.planned, Reason.RECOVERING)
        # The hold is not confirmed: it lapses behind the watermark only, and before that the
        # reader meets the event.
        return _answer(asked.planned, record)

    async def reserve(self, request: Reserve) -> Reserved:
        """Hold all of the items until they are settled, released, or the deadline; or none.

        Durable when allowed, and once per key, like :meth:`consume`.

        Raises:
            NotFound, InvalidRequest, NotConsumable, KeyReused: as for :meth:`consume`.
        """
        patience = Patience()
        asked = await self._decided(lambda now: self._reservation(request, now), patience)
        record = self._record(asked)
        if record is None:
            return Reserved(reservation=None, decision=self._decision(asked))
        if not record.confirmed:
            if not self._in_time(record, patience):
                denied = _denied(asked.planned, Reason.LEDGER_UNAVAILABLE)
                return Reserved(reservation=None, decision=denied)
            await self._sink.append(hold_entry(request.customer, record))
            if asked.verdict is not None:
                self._ledger.confirm(request.customer, record)
        return Reserved(reservation=record.hold, decision=_answer(asked.planned, record))

    def _consumption(self, request: Consume, now: Micros) -> _Asked:
        planned = self._places.plan(request.customer, request.items, now=now)
        uses = planned.uses(request.data)
        subject = self._places.subject(request.customer, request.subject, now)
        hold = HoldRequest(
            key=request.key,
            id=hold_id(request.customer, request.key, now),
            digest=request.digest,
            request=draft(subject, uses),
        )
        return self._held(request.customer, planned, hold, now)

    def _reservation(self, request: Reserve, now: Micros) -> _Asked:
        planned = self._places.plan(request.customer, request.items, now=now)
        planned.uses({})  # refuses what could never be settled
        subject = self._places.subject(request.customer, request.subject, now)
        expires = Micros(now + request.ttl_us)
        hold = HoldRequest(
            key=request.key,
            id=reservation_id(request.customer, request.key, request.digest, now),
            digest=request.digest,
            request=draft_hold(subject, request.items, expires),
            expires=expires,
        )
        return self._held(request.customer, planned, hold, now)

    def _in_time(self, record: KeyRecord, patience: Patience) -> bool:
        now = Micros(max(self._clock.now_us(), self._sink.logged))
        return patience.in_time(now, record.lapses, within_s=self._submit_within_s)

    def _held(
        self, customer: CustomerId, planned: Planned, hold: HoldRequest, now: Micros
    ) -> _Asked:
        demand = Demand(
            customer=customer,
            now=now,
            slots=planned.slots,
            hold=hold,
            refused=planned.refused,
            logged=self._sink.logged,
        )
        return _Asked(planned=planned, demand=demand)

    async def _decided(self, ask: Ask, patience: Patience) -> _Asked:
        """Ask until the answer is about the present: openings and schedules may move meanwhile."""
        while True:
            asked = ask(patience.now(self._clock))
            if not asked.planned.slots and asked.demand.hold is None:
                return asked
            try:
                demand = await self._openings.fill(asked.planned, asked.demand)
                verdict = await self._ledger.decide(demand)
            except LedgerUnavailable:
                return replace(asked, outage=Reason.LEDGER_UNAVAILABLE)
            match verdict.status:
                case Status.DECIDED | Status.KNOWN:
                    return _Asked(planned=asked.planned, demand=demand, verdict=verdict)
                case Status.REUSED:
                    raise KeyReused("the key was used for another request of this customer")
                case Status.UNSEEDED | Status.LOST if not demand.slots:
                    return asked  # no contract, no account: the catalog's denial stands
                case Status.STALE:
                    self._openings.forget(demand.customer, asked.planned)
            if not await patience.again(verdict):
                return _Asked(planned=asked.planned, demand=demand, outage=Reason.RECOVERING)

    def _passes_outage(self, item: PlannedItem, outage: Reason) -> bool:
        """Soft and unlimited features go on without the ledger; hard ones that are named, too.

        While the ledger is merely being rebuilt, every hard limit waits for it.
        """
        if item.slot is None:
            return item.standing.reason is None
        if item.slot.gate is not Gate.HARD:
            return True
        return outage is not Reason.RECOVERING and item.item.feature in self._open_minded

    def _record(self, asked: _Asked) -> KeyRecord | None:
        """The key's record of a request that is to go ahead, None where it is denied.

        Without the ledger it is made up here: the identity made from the key keeps a retry from
        counting twice, and the reader files it when it gets there.
        """
        hold, outage = asked.demand.hold, asked.outage
        if asked.verdict is not None:
            return asked.verdict.record if asked.verdict.allowed else None
        if hold is None or outage is None:
            return None
        if not all(self._passes_outage(item, outage) for item in asked.planned.items):
            return None
        return KeyRecord(
            key=hold.key,
            hold=hold.id,
            digest=hold.digest,
            at=asked.demand.now,
            balances=(None,) * len(asked.demand.slots),
            request=hold.request,
            expires=hold.expires,
            lapses=asked.demand.lapses,
        )

    def _decision(self, asked: _Asked) -> Decision:
        """The answer of a check, or of a request that is denied."""
        verdict, place, allowed = asked.verdict, 0, True
        results = []
        for item in asked.planned.items:
            if item.slot is None or (verdict is None and asked.outage is None):
                result = _from_catalog(item)
            elif verdict is not None:
                result = _judged(item, verdict, place)
                place += 1
            else:
                passed = self._passes_outage(item, cast("Reason", asked.outage))
                reason = None if passed else asked.outage
                result = ItemDecision(feature=item.item.feature, allowed=passed, reason=reason)
            allowed = allowed and result.allowed
            results.append(result)
        return Decision(allowed=allowed, items=results)


def _answer(planned: Planned, record: KeyRecord) -> Decision:
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


def _unknown_customer(items: Sequence[Item]) -> Decision:
    """The denial of a customer nobody knows: one of many that are checked at once."""
    denials = [
        ItemDecision(feature=item.feature, allowed=False, reason=Reason.NO_ENTITLEMENT)
        for item in items
    ]
    return Decision(allowed=False, items=denials)


def _denied(planned: Planned, reason: Reason) -> Decision:
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
