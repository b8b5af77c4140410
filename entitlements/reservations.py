"""Settle and release: how a reservation ends before its deadline does it.

The ledger decides first and keeps everything held; then the usage and, after it, a SETTLE (or a
RELEASE) go to the log together; only then what was not used is free again. So a crash anywhere
leaves too much held for a while, never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from catalog.clock import Clock, Micros
from catalog.errors import FieldError, InvalidRequest, NotFound
from catalog.ids import CustomerId, FeatureId
from entitlements.holds import Held, end_entry, events_of_settle, summed, usage_events
from entitlements.openings import Openings
from entitlements.patience import SUBMIT_WITHIN_S, Patience
from entitlements.places import Places
from entitlements.ports import (
    Demand,
    End,
    Ending,
    EndKind,
    Gate,
    Ledger,
    LedgerLost,
    LedgerUnavailable,
    Slot,
    Status,
    UsageSink,
    Verdict,
)
from entitlements.requests import (
    Decision,
    Item,
    ItemDecision,
    Reason,
    Release,
    ReservationEnded,
    ReservationExpired,
    Settle,
)
from entitlements.schedules import Schedules
from entitlements.slots import Planned

REBUILDING = "the entitlement ledger is being rebuilt"

_NOTHING = Slot(
    feature=FeatureId(""), schedule="", segment=Micros(0), gate=Gate.HARD, opening=0, amount=0
)


class Reservations:
    """Settle and release of one gateway. One event loop; any number of calls at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        schedules: Callable[[], Schedules],
        clock: Clock,
        sink: UsageSink,
        submit_within_s: float = SUBMIT_WITHIN_S,
    ) -> None:
        self._submit_within_s = submit_within_s
        self._ledger = ledger
        self._places = Places(schedules)
        self._clock = clock
        self._sink = sink
        self._openings = Openings(ledger)

    async def settle(self, asked: Settle) -> Decision:
        """Record what was used and give the rest back. Durable when allowed; exactly once.

        A denial changes nothing: the reservation stays open and may be settled with less.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
            ReservationExpired: the units have returned.
            ReservationEnded: it was settled with other content, or released.
            LedgerUnavailable, LedgerLost: it may be tried again.
        """
        held = await self._held(asked.customer, asked.reservation)
        items = held.items if asked.items is None else asked.items
        _check_items(items, held)
        return await self._settled(replace(asked, items=items), items, held)

    async def release(self, asked: Release) -> None:
        """Give everything back. Durable on return. Fine where the deadline has done it already.

        Raises:
            NotFound: there is no such reservation.
            ReservationEnded: it was settled.
            LedgerUnavailable, LedgerLost: it may be tried again.
        """
        held = await self._held(asked.customer, asked.reservation)
        patience = Patience()
        while True:
            ending = Ending(
                customer=asked.customer,
                reservation=held.id,
                now=patience.now(self._clock),
                kind=EndKind.RELEASE,
                digest=EndKind.RELEASE,
                request="",
                logged=self._sink.logged,
            )
            verdict = await self._ledger.end(ending)
            if verdict.status is Status.EXPIRED:
                return
            if await self._recorded(asked.customer, verdict, {}, patience):
                return
            if not await patience.again(verdict):
                raise LedgerLost(REBUILDING)

    async def _held(self, customer: CustomerId, reservation: str) -> Held:
        if customer not in self._places.schedules.catalog.customers:
            raise NotFound(f"no customer {customer!r}")
        found = await self._ledger.reservation(customer, reservation)
        if found is None:
            raise NotFound(f"no reservation {reservation!r} of this customer")
        return Held.of(found)

    async def _settled(self, asked: Settle, items: Sequence[Item], held: Held) -> Decision:
        amounts, kept = summed(items), _kept(items, held)
        patience = Patience()
        while True:
            now = patience.now(self._clock)
            excess = [
                Item(feature=feature, amount=amount - kept[feature])
                for feature, amount in amounts.items()
            ]
            planned = self._places.plan(asked.customer, excess, now=now)
            ending = await self._ending(asked, held, planned, now)
            verdict = await self._ledger.end(ending)
            if verdict.status is Status.EXPIRED:
                raise ReservationExpired("the deadline has passed: the units have returned")
            if verdict.status is Status.DECIDED and not verdict.allowed:
                return _denied(items, planned, verdict)
            if await self._recorded(asked.customer, verdict, kept, patience):
                assert verdict.end is not None
                return _allowed(items, verdict.end)
            if verdict.status is Status.STALE:
                self._openings.forget(asked.customer, planned)
            if not await patience.again(verdict):
                raise LedgerLost(REBUILDING)

    async def _ending(self, asked: Settle, held: Held, planned: Planned, now: Micros) -> Ending:
        demand = Demand(customer=asked.customer, now=now, slots=planned.slots)
        filled = iter((await self._openings.fill(planned, demand)).slots)
        slots = [
            replace(_NOTHING, feature=one.item.feature, amount=one.item.amount)
            if one.slot is None
            else _settled_slot(next(filled))
            for one in planned.items
        ]
        kept = _kept(asked.items or (), held)
        return Ending(
            customer=asked.customer,
            reservation=held.id,
            now=now,
            kind=EndKind.SETTLE,
            digest=asked.digest,
            request=events_of_settle(asked, held, self._places.schedules, now),
            slots=tuple(slots),
            kept=tuple(kept[slot.feature] for slot in slots),
            logged=self._sink.logged,
        )

    async def _recorded(
        self,
        customer: CustomerId,
        verdict: Verdict,
        kept: Mapping[FeatureId, int],
        patience: Patience,
    ) -> bool:
        """Make a decided end durable. False where there is none, or no time is left for it."""
        if verdict.status is Status.REUSED:
            raise ReservationEnded("the reservation has ended otherwise already")
        end = verdict.end
        if end is None:
            return False
        if not end.confirmed:
            now = Micros(max(self._clock.now_us(), self._sink.logged))
            if not patience.in_time(now, end.lapses, within_s=self._submit_within_s):
                raise LedgerUnavailable("the entitlement ledger answered too late")
            await self._sink.append(end_entry(customer, end), usage_events(end.request))
            self._ledger.conclude(customer, end, kept)
        return True


def _settled_slot(slot: Slot) -> Slot:
    """A slot whose hold covers it all passes, also in overage."""
    return replace(slot, gate=Gate.SOFT) if slot.gate is Gate.HARD and not slot.amount else slot


def _kept(items: Sequence[Item], held: Held) -> dict[FeatureId, int]:
    """How much of the hold is used, by feature of the settle."""
    amounts = held.amounts
    return {
        feature: min(amount, amounts.get(feature, 0)) for feature, amount in summed(items).items()
    }


def _check_items(items: Sequence[Item], held: Held) -> None:
    reserved = held.amounts
    for index, item in enumerate(items):
        if item.feature not in reserved:
            error = FieldError(
                pointer=f"/items/{index}/feature", detail="is not part of the reservation"
            )
            raise InvalidRequest(f"{item.feature} is not part of the reservation", errors=[error])


def _allowed(items: Sequence[Item], end: End) -> Decision:
    """What an allowed settle answers, now and to every retry."""
    left = dict(zip(summed(items), end.balances, strict=True))
    shown = tuple(
        ItemDecision(feature=item.feature, allowed=True, balance=_shown(left[item.feature]))
        for item in items
    )
    return Decision(allowed=True, items=shown)


def _denied(items: Sequence[Item], planned: Planned, verdict: Verdict) -> Decision:
    judged: dict[FeatureId, tuple[bool, int | None, Reason]] = {}
    for one, passed, left in zip(planned.items, verdict.passed, verdict.left, strict=True):
        unlimited = one.slot is not None and one.slot.gate is Gate.UNLIMITED
        reason = one.standing.reason or Reason.INSUFFICIENT
        judged[one.item.feature] = (passed, None if unlimited else left, reason)
    shown = []
    for item in items:
        passed, balance, reason = judged[item.feature]
        shown.append(
            ItemDecision(
                feature=item.feature,
                allowed=passed,
                balance=_shown(balance),
                reason=None if passed else reason,
            )
        )
    return Decision(allowed=False, items=tuple(shown))


def _shown(left: int | None) -> int | None:
    return None if left is None else max(0, left)
