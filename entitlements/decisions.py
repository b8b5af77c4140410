"""Check, consume and reserve: from a request to the ledger's decision and a durable record.

What the catalog alone answers (boolean and static features, no grant at all) never asks the
ledger. Metered items become slots; the ledger decides all of a request's slots at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from catalog.clock import Clock, Micros
from catalog.errors import DomainError
from catalog.ids import CustomerId, FeatureId
from entitlements.answers import Answers, Asked, answer, denied
from entitlements.checks import Ask, Check, Checks
from entitlements.consumptions import Consumptions
from entitlements.holds import draft_hold, hold_entry
from entitlements.openings import Openings
from entitlements.patience import SUBMIT_WITHIN_S, Patience
from entitlements.places import Places
from entitlements.ports import (
    Demand,
    HoldRequest,
    KeyRecord,
    Ledger,
    LedgerUnavailable,
    Status,
    UsageEvent,
    UsageSink,
    Verdict,
)
from entitlements.requests import Consume, Decision, Item, KeyReused, Reason, Reserve, Reserved
from entitlements.schedules import Schedules
from entitlements.usage import events_of, hold_id, reservation_id


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
        self._consumptions = Consumptions(self._places)
        self._openings = Openings(ledger)
        self._answers = Answers(allowed_without_ledger)
        self.checks = Checks(
            ledger=ledger,
            places=self._places,
            openings=self._openings,
            clock=clock,
            answers=self._answers,
            ask_until_present=self._decided,
        )

    async def check(self, customer: CustomerId, items: Sequence[Item]) -> Decision:
        """Whether the customer may use all of ``items`` now: see :meth:`check_all`."""
        return (await self.check_all([(customer, items)]))[0]

    async def check_all(self, asked: Sequence[tuple[CustomerId, Sequence[Item]]]) -> list[Decision]:
        """Whether each customer may use all of its items now, in order. Nothing is consumed.

        A customer that is not in the catalog is denied: it has no entitlement.

        Raises:
            NotFound, InvalidRequest, NotConsumable: a feature or an item is wrong.
        """
        checks = [Check(customer, items) for customer, items in asked]
        decided = await self.checks.decide(self.checks.plan(checks))
        return await self.checks.finish(checks, decided)

    async def consume(self, request: Consume) -> Decision:
        """Use all of the items now, or none. Durable when allowed; exactly once per key.

        A denial leaves nothing behind: the same key may be tried again.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
            KeyReused: the key was used for another request within 24 hours.
        """
        patience = Patience()
        asked = await self._decided(lambda now: self._consumption(request, now), patience)
        [decision] = await self._recorded([asked], patience)
        if isinstance(decision, Exception):
            raise decision
        return decision

    def ask_consume(self, request: Consume) -> Asked:
        """Plan a consume for :meth:`consume_all`.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
        """
        return self._consumption(request, self._clock.now_us())

    async def consume_all(self, asked: Sequence[Asked]) -> list[Decision | Exception | None]:
        """Like :meth:`consume` each, at the cost of one round trip and one place in the log.

        Returns:
            In order, the decision, or what :meth:`consume` would raise. Null where nothing was
            done, and it is to be consumed alone: its key may be known, its account not filled.
        """
        patience = Patience()
        demands = [self._openings.at_once(each.planned, each.demand) for each in asked]
        verdicts = await self._verdicts([demand for demand in demands if demand is not None])
        decided: list[Asked | None] = []
        for each, demand in zip(asked, demands, strict=True):
            verdict = next(verdicts) if demand is not None else None
            if demand is None or (verdict is not None and verdict.status is not Status.DECIDED):
                decided.append(None)
                continue
            outage = Reason.LEDGER_UNAVAILABLE if verdict is None else None
            planned = each.planned
            decided.append(Asked(planned=planned, demand=demand, verdict=verdict, outage=outage))
        answered = iter(await self._recorded([e for e in decided if e is not None], patience))
        return [None if each is None else next(answered) for each in decided]

    async def _verdicts(self, demands: Sequence[Demand]) -> Iterator[Verdict | None]:
        try:
            return iter(await self._ledger.decide_all(demands))
        except LedgerUnavailable:
            return iter([None] * len(demands))

    async def _recorded(
        self, decided: Sequence[Asked], patience: Patience
    ) -> list[Decision | Exception]:
        """Record what is to go ahead, and answer. An exception is of the log's."""
        results: list[Decision | Exception] = []
        waiting: list[tuple[int, KeyRecord]] = []
        for asked in decided:
            record = self._record(asked)
            if record is None:
                results.append(self._denied(asked))
            elif record.confirmed or self._in_time(record, patience):
                # The hold is not confirmed: it lapses behind the watermark only, and before that
                # the reader meets the event.
                if not record.confirmed:
                    waiting.append((len(results), record))
                results.append(answer(asked.planned, record))
            else:
                results.append(denied(asked.planned, Reason.LEDGER_UNAVAILABLE))
        if waiting:
            events = [events_of(decided[at].demand.customer, record) for at, record in waiting]
            for (at, _), kept in zip(waiting, await self._kept(events), strict=True):
                if isinstance(kept, Exception):
                    results[at] = kept
                elif not kept:
                    results[at] = denied(decided[at].planned, Reason.RECOVERING)
        return results

    async def _kept(self, events: Sequence[Sequence[UsageEvent]]) -> Sequence[bool | Exception]:
        try:
            if len(events) == 1:
                return [await self._sink.record(events[0])]
            return await self._sink.record_all(events)
        except DomainError as error:
            return [error] * len(events)

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
            return Reserved(reservation=None, decision=self._denied(asked))
        if not record.confirmed:
            if not self._in_time(record, patience):
                late = denied(asked.planned, Reason.LEDGER_UNAVAILABLE)
                return Reserved(reservation=None, decision=late)
            await self._sink.append(hold_entry(request.customer, record))
            if asked.verdict is not None:
                self._ledger.confirm(request.customer, record)
        return Reserved(reservation=record.hold, decision=answer(asked.planned, record))

    def _consumption(self, request: Consume, now: Micros) -> Asked:
        terms = self._consumptions.terms(request, now)
        hold = HoldRequest(
            key=request.key,
            id=hold_id(request.customer, request.key, now),
            digest=terms.digest,
            request=terms.drafted,
        )
        demand = Demand(
            customer=request.customer,
            now=now,
            slots=terms.slots,
            hold=hold,
            refused=terms.refused,
            logged=self._sink.logged,
        )
        return Asked(planned=terms.planned, demand=demand)

    def _reservation(self, request: Reserve, now: Micros) -> Asked:
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
        demand = Demand(
            customer=request.customer,
            now=now,
            slots=planned.slots,
            hold=hold,
            refused=planned.refused,
            logged=self._sink.logged,
        )
        return Asked(planned=planned, demand=demand)

    def _in_time(self, record: KeyRecord, patience: Patience) -> bool:
        now = Micros(max(self._clock.now_us(), self._sink.logged))
        return patience.in_time(now, record.lapses, within_s=self._submit_within_s)

    async def _decided(self, ask: Ask, patience: Patience) -> Asked:
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
                    return Asked(planned=asked.planned, demand=demand, verdict=verdict)
                case Status.REUSED:
                    raise KeyReused("the key was used for another request of this customer")
                case Status.UNSEEDED | Status.LOST if not demand.slots:
                    return asked  # no contract, no account: the catalog's denial stands
                case Status.STALE:
                    self._openings.forget(demand.customer, asked.planned)
            if not await patience.again(verdict):
                return Asked(planned=asked.planned, demand=demand, outage=Reason.RECOVERING)

    def _record(self, asked: Asked) -> KeyRecord | None:
        """The key's record of a request that is to go ahead, None where it is denied.

        Without the ledger it is made up here: the identity made from the key keeps a retry from
        counting twice, and the reader files it when it gets there.
        """
        hold, outage = asked.demand.hold, asked.outage
        if asked.verdict is not None:
            return asked.verdict.record if asked.verdict.allowed else None
        if hold is None or outage is None:
            return None
        if not all(self._answers.passes_outage(item, outage) for item in asked.planned.items):
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

    def _denied(self, asked: Asked) -> Decision:
        return self._answers.decision(asked.planned, asked.verdict, asked.outage)
