"""What the ledger means, in plain Python: the reference for the contract tests and simulations."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId, NodeId, Seq
from entitlements.ports import (
    KEPT_US,
    Account,
    AccountUsage,
    Demand,
    End,
    Ending,
    Gate,
    HoldRequest,
    KeyRecord,
    LedgerLost,
    Opened,
    PositionOverlap,
    Question,
    Refill,
    RefillMode,
    Reservation,
    Slot,
    Status,
    Verdict,
)

Place = tuple[FeatureId, int]


@dataclass(slots=True)
class _Hold:
    made: Micros
    amounts: list[tuple[Place, int]]
    lapses: bool = True
    lapse_at: int = 0
    expires: Micros | None = None


@dataclass(slots=True)
class _Account:
    totals: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    holds: dict[str, _Hold] = field(default_factory=dict)
    positions: dict[NodeId, Seq] = field(default_factory=dict)
    schedules: dict[FeatureId, str] = field(default_factory=dict)
    versions: dict[FeatureId, int] = field(default_factory=lambda: defaultdict(int))
    current: dict[FeatureId, int] = field(default_factory=dict)
    records: dict[str, KeyRecord] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    expired: int = 0  # reservations up to here have returned, whatever the clock says now

    def held(self, place: Place) -> int:
        return sum(
            amount
            for hold in self.holds.values()
            for where, amount in hold.amounts
            if where == place
        )

    def drop(self, name: str) -> None:
        """End a hold; earlier segments than the current one have changed then."""
        hold = self.holds.pop(name, None)
        if hold is not None:
            self.touch(hold)

    def touch(self, hold: _Hold) -> None:
        for (feature, segment), _ in hold.amounts:
            if segment < self.current.get(feature, segment):
                self.versions[feature] += 1

    def put(self, name: str, hold: _Hold) -> None:
        self.holds[name] = hold
        self.touch(hold)

    def file(self, filed: AccountUsage | Refill) -> None:
        for record in filed.settled:
            self.drop(record.hold)
            self.records[record.key] = replace(record, request="", confirmed=True)
        for opened in filed.opened:
            self.open(opened, filed.now)
        for end in filed.ended:
            self.drop(end.reservation)
            self.drop(_excess(end.reservation))
            self.ends[end.reservation] = replace(end, request="", confirmed=True)

    def open(self, opened: Opened, now: int) -> None:
        record = opened.record
        assert record.expires is not None
        self.records[record.key] = record
        self.reservations[record.hold] = Reservation(
            id=record.hold, made=record.at, expires=record.expires, request=record.request
        )
        end = self.ends.get(record.hold)
        if record.hold in self.holds:
            self.holds[record.hold].lapses = False
        elif max(now, self.expired) < record.expires and not (end is not None and end.confirmed):
            amounts = [((feature, at), amount) for feature, at, amount in opened.places]
            hold = _Hold(made=record.at, amounts=amounts, lapses=False, expires=record.expires)
            self.put(record.hold, hold)

    def sweep(self, now: int, watermark: int) -> None:
        """End what lapsed, and reservations at their deadline unless they are being ended."""
        for name, hold in list(self.holds.items()):
            if hold.lapses and hold.lapse_at <= watermark:
                self.drop(name)
        for name, hold in list(self.holds.items()):
            ending = self.ends.get(name)
            waits = hold.lapses or (ending is not None and ending.confirmed)
            if hold.expires is None or waits or _excess(name) in self.holds:
                continue
            if hold.expires <= now:
                self.drop(name)
                self.expired = max(self.expired, now)


def _excess(reservation: str) -> str:
    """The hold of what exceeds a reservation that is being settled."""
    return f"{reservation}+"


class MemoryLedger:
    """Implements both :class:`Ledger` and :class:`LedgerWriter`. Gone with the process."""

    def __init__(self) -> None:
        self._accounts: dict[CustomerId, _Account] = {}
        self._positions: dict[NodeId, Seq] = {}
        self._begun = False
        self._ready = False
        self._watermark = Micros(0)
        self._versions = itertools.count(1)

    # the gateway's side

    @property
    def watermark(self) -> Micros:
        """Every node's log is applied up to here."""
        return self._watermark

    async def decide(self, demand: Demand) -> Verdict:
        """See :meth:`entitlements.ports.Ledger.decide`."""
        account = self._accounts.get(demand.customer)
        if account is None:
            return Verdict(status=Status.UNSEEDED if self._ready else Status.LOST)
        account.sweep(demand.now, self._watermark)
        if demand.hold is not None:
            known = _known(account, demand.hold, demand.now)
            if known is not None:
                return known
        return _unready(account, demand.slots) or _judge(account, demand)

    async def decide_all(self, demands: Sequence[Demand]) -> list[Verdict | None]:
        """See :meth:`entitlements.ports.Ledger.decide_all`."""
        return [await self.decide(demand) for demand in demands]

    async def look(self, questions: Sequence[Question], *, now: Micros) -> list[Verdict | None]:
        """See :meth:`entitlements.ports.Ledger.look`."""
        return await self.decide_all([question.demand(now) for question in questions])

    async def account(self, customer: CustomerId, *, now: Micros) -> Account | None:
        """See :meth:`entitlements.ports.Ledger.account`."""
        held = self._accounts.get(customer)
        if held is not None:
            held.sweep(now, self._watermark)
        return self.accounts([customer])[0]

    async def reservation(self, customer: CustomerId, reservation: str) -> Reservation | None:
        """See :meth:`entitlements.ports.Ledger.reservation`."""
        account = self._accounts.get(customer)
        if account is None and not self._ready:
            raise LedgerLost("the ledger is being rebuilt")
        return account.reservations.get(reservation) if account else None

    async def end(self, ending: Ending) -> Verdict:
        """See :meth:`entitlements.ports.Ledger.end`."""
        account = self._accounts.get(ending.customer)
        if account is None:
            return Verdict(status=Status.LOST)
        account.sweep(ending.now, self._watermark)
        known = account.ends.get(ending.reservation)
        excess = _excess(ending.reservation)
        if known is not None and (known.confirmed or excess in account.holds):
            if known.digest != ending.digest:
                return Verdict(status=Status.REUSED)
            return Verdict(status=Status.KNOWN, allowed=True, end=known)
        hold = account.holds.get(ending.reservation)
        if hold is None:
            return Verdict(status=Status.EXPIRED)
        if hold.lapses:
            return Verdict(status=Status.UNSEEDED)
        filed = tuple(slot for slot in ending.slots if slot.schedule)
        return _unready(account, filed) or _end(account, ending, hold)

    def conclude(self, customer: CustomerId, end: End, kept: Mapping[FeatureId, int]) -> None:
        """See :meth:`entitlements.ports.Ledger.conclude`."""
        account = self._accounts.get(customer)
        known = account.ends.get(end.reservation) if account else None
        if account is None or known is None or known.digest != end.digest or known.confirmed:
            return
        account.ends[end.reservation] = replace(known, confirmed=True, request="")
        if _excess(end.reservation) in account.holds:
            account.holds[_excess(end.reservation)].lapses = False
        hold = account.holds.get(end.reservation)
        if hold is not None:
            account.touch(hold)
            hold.amounts = _reduced(hold.amounts, kept)

    def confirm(self, customer: CustomerId, record: KeyRecord) -> None:
        """See :meth:`entitlements.ports.Ledger.confirm`."""
        account = self._accounts.get(customer)
        known = account.records.get(record.key) if account else None
        if account is not None and known is not None and known.hold == record.hold:
            account.records[record.key] = replace(known, confirmed=True, request="")
            if record.hold in account.holds:
                account.holds[record.hold].lapses = False

    # the reader's side

    def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        self._accounts.clear()
        self._positions.clear()
        self._begun = self._ready = False
        self._watermark = Micros(0)

    def positions(self) -> dict[NodeId, Seq] | None:
        """See :meth:`entitlements.ports.LedgerWriter.positions`."""
        return dict(self._positions) if self._ready else None

    def begin(self) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.begin`."""
        self.flush()
        self._begun = True

    def finish(self) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.finish`."""
        self._owned()
        self._ready = True

    def refill(self, refills: Iterable[Refill], positions: Mapping[NodeId, Seq]) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.refill`."""
        self._owned()
        for refill in refills:
            if refill.mode is RefillMode.WIPE:
                self._accounts.pop(refill.customer, None)
            elif refill.mode is RefillMode.KEPT and refill.customer not in self._accounts:
                raise LedgerLost("an account is gone")
            account = self._accounts.setdefault(refill.customer, _Account())
            account.positions |= positions
            for usage in refill.features:
                for place in [p for p in account.totals if p[0] == usage.feature]:
                    del account.totals[place]
                account.totals.update({(usage.feature, s): t for s, t in usage.totals.items()})
                account.versions[usage.feature] = 1_000_000 * next(self._versions)
                account.current.pop(usage.feature, None)
                account.schedules[usage.feature] = usage.digest
                _refile(account, usage.feature, usage.starts)
            account.file(refill)

    def apply(self, usages: Sequence[AccountUsage], *, node: NodeId, after: Seq, upto: Seq) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.apply`."""
        overlap = False
        for usage in usages:
            account = self._accounts.get(usage.customer)
            if account is None:
                raise LedgerLost("an account is gone")
            position = account.positions.get(node, 0)
            if position >= upto:
                continue
            if position > after:
                overlap = True
                continue
            for feature, segment, change in usage.deltas:
                account.totals[feature, segment] += change
                if segment < account.current.get(feature, segment):
                    account.versions[feature] += 1
            account.file(usage)
            account.positions[node] = upto
        if overlap:
            raise PositionOverlap("an account has applied a part of these records")

    def applied(self, customers: Sequence[CustomerId], node: NodeId) -> dict[CustomerId, Seq]:
        """See :meth:`entitlements.ports.LedgerWriter.applied`."""
        return {
            customer: self._accounts[customer].positions.get(node, Seq(0))
            if customer in self._accounts
            else Seq(0)
            for customer in customers
        }

    def publish(self, positions: Mapping[NodeId, Seq], *, watermark: Micros) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.publish`."""
        self._owned()
        self._positions |= positions
        self._watermark = watermark

    def accounts(self, customers: Sequence[CustomerId]) -> list[Account | None]:
        """See :meth:`entitlements.ports.LedgerWriter.accounts`."""
        return [_shown(self._accounts.get(customer)) for customer in customers]

    def _owned(self) -> None:
        if not self._begun:
            raise LedgerLost("the ledger was flushed")


def _shown(account: _Account | None) -> Account | None:
    if account is None:
        return None
    places = {place for hold in account.holds.values() for place, _ in hold.amounts}
    return Account(
        totals={place: total for place, total in account.totals.items() if total},
        held={place: account.held(place) for place in places},
        versions=dict(account.versions),
        schedules={f: digest for f, digest in account.schedules.items() if digest},
    )


def _known(account: _Account, hold: HoldRequest, now: int) -> Verdict | None:
    record = account.records.get(hold.key)
    if record is None or now - record.at >= KEPT_US:
        return None
    if not record.confirmed and record.hold not in account.holds:
        return None  # its hold lapsed
    if record.digest != hold.digest:
        return Verdict(status=Status.REUSED)
    return Verdict(status=Status.KNOWN, allowed=True, record=record)


def _unready(account: _Account, slots: Sequence[Slot]) -> Verdict | None:
    """Why these slots cannot be decided, None where they can."""
    for slot in slots:
        current = account.current.get(slot.feature, -1)
        if account.schedules.get(slot.feature) != slot.schedule:
            return Verdict(status=Status.UNSEEDED)
        if slot.segment < current:
            return Verdict(status=Status.BEHIND, at=Micros(current))
        if slot.version is None:
            continue
        if slot.segment > current:
            account.current[slot.feature] = slot.segment
            account.versions[slot.feature] += 1
            return Verdict(status=Status.STALE)
        if account.versions[slot.feature] != slot.version:
            return Verdict(status=Status.STALE)
    return None


def _end(account: _Account, ending: Ending, hold: _Hold) -> Verdict:
    passed, before, after = [], [], []
    for slot, kept in zip(ending.slots, ending.kept, strict=True):
        place = (slot.feature, int(slot.segment))
        available = slot.opening
        if slot.schedule:
            available -= account.totals[place] + account.held(place)
        passed.append(slot.gate is not Gate.HARD or slot.amount <= available)
        before.append(available)
        own = sum(amount for where, amount in hold.amounts if where == place)
        after.append(available - slot.amount + (own - kept if own else 0))
    if not all(passed):
        return Verdict(status=Status.DECIDED, passed=tuple(passed), left=tuple(before))
    balances = tuple(
        None if slot.gate is Gate.UNLIMITED else left
        for slot, left in zip(ending.slots, after, strict=True)
    )
    amounts = [((s.feature, int(s.segment)), s.amount) for s in ending.slots if s.amount]
    excess = _Hold(made=ending.now, amounts=amounts, lapse_at=ending.lapses)
    account.put(_excess(ending.reservation), excess)
    account.ends[ending.reservation] = end = End(
        reservation=ending.reservation,
        kind=ending.kind,
        digest=ending.digest,
        at=ending.now,
        balances=balances,
        request=ending.request,
        lapses=ending.lapses,
    )
    return Verdict(
        status=Status.DECIDED, allowed=True, passed=tuple(passed), left=tuple(after), end=end
    )


def _reduced(
    amounts: Sequence[tuple[Place, int]], kept: Mapping[FeatureId, int]
) -> list[tuple[Place, int]]:
    left, found = dict(kept), []
    for place, amount in amounts:
        stays = min(amount, left.get(place[0], 0))
        left[place[0]] = left.get(place[0], 0) - stays
        found.append((place, stays))
    return found


def _judge(account: _Account, demand: Demand) -> Verdict:
    taken: dict[Place, int] = defaultdict(int)
    passed, before, after = [], [], []
    for slot in demand.slots:
        place = (slot.feature, int(slot.segment))
        available = slot.opening - account.totals[place] - account.held(place) - taken[place]
        passes = slot.gate is not Gate.HARD or slot.amount <= available
        taken[place] += slot.amount if passes else 0
        passed.append(passes)
        before.append(available)
        after.append(available - slot.amount)
    allowed = all(passed) and not demand.refused
    if demand.hold is None or not allowed:
        return Verdict(
            status=Status.DECIDED, allowed=allowed, passed=tuple(passed), left=tuple(before)
        )
    record = _keep(account, demand, demand.hold, after)
    return Verdict(
        status=Status.DECIDED, allowed=True, passed=tuple(passed), left=tuple(after), record=record
    )


def _keep(account: _Account, demand: Demand, hold: HoldRequest, after: Sequence[int]) -> KeyRecord:
    amounts = [((slot.feature, int(slot.segment)), slot.amount) for slot in demand.slots]
    made, lapses = demand.now, demand.lapses
    account.put(hold.id, _Hold(made=made, amounts=amounts, lapse_at=lapses, expires=hold.expires))
    if hold.expires is not None:
        account.ends.pop(hold.id, None)
        account.reservations[hold.id] = Reservation(
            id=hold.id, made=demand.now, expires=hold.expires, request=hold.request
        )
    record = KeyRecord(
        key=hold.key,
        hold=hold.id,
        digest=hold.digest,
        at=demand.now,
        balances=tuple(
            None if slot.gate is Gate.UNLIMITED else left
            for slot, left in zip(demand.slots, after, strict=True)
        ),
        request=hold.request,
        expires=hold.expires,
        lapses=lapses,
    )
    account.records[hold.key] = record
    return record


def _refile(account: _Account, feature: FeatureId, starts: Sequence[int]) -> None:
    """File open holds under the new segments, by when they were made."""
    for hold in account.holds.values():
        hold.amounts = [
            (_filed(place, hold.made, starts) if place[0] == feature else place, amount)
            for place, amount in hold.amounts
        ]


def _filed(place: Place, made: int, starts: Sequence[int]) -> Place:
    return place[0], max((start for start in starts if start <= made), default=place[1])
