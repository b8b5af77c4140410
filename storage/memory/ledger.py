"""What the ledger means, in plain Python: the reference for the contract tests and simulations."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId, NodeId, Seq
from entitlements.ports import (
    HOLD_US,
    KEPT_US,
    Account,
    AccountUsage,
    Demand,
    Gate,
    HoldRequest,
    KeyRecord,
    LedgerLost,
    PositionOverlap,
    Refill,
    RefillMode,
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


@dataclass(slots=True)
class _Account:
    totals: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    holds: dict[str, _Hold] = field(default_factory=dict)
    positions: dict[NodeId, Seq] = field(default_factory=dict)
    schedules: dict[FeatureId, str] = field(default_factory=dict)
    versions: dict[FeatureId, int] = field(default_factory=lambda: defaultdict(int))
    current: dict[FeatureId, int] = field(default_factory=dict)
    records: dict[str, KeyRecord] = field(default_factory=dict)

    def held(self, place: Place) -> int:
        return sum(
            amount
            for hold in self.holds.values()
            for where, amount in hold.amounts
            if where == place
        )

    def settle(self, records: Sequence[KeyRecord]) -> None:
        for record in records:
            self.holds.pop(record.hold, None)
            self.records[record.key] = replace(record, request="", confirmed=True)


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
        self._lapse(account, demand.now)
        if demand.hold is not None:
            known = _known(account, demand.hold, demand.now)
            if known is not None:
                return known
        if any(account.schedules.get(slot.feature) != slot.schedule for slot in demand.slots):
            return Verdict(status=Status.UNSEEDED)
        if any(_outdated(account, slot) for slot in demand.slots):
            return Verdict(status=Status.STALE)
        return _judge(account, demand)

    async def account(self, customer: CustomerId) -> Account | None:
        """See :meth:`entitlements.ports.Ledger.account`."""
        held = self._accounts.get(customer)
        if held is not None:
            self._lapse(held, self._watermark)
        return self.accounts([customer])[0]

    def confirm(self, customer: CustomerId, record: KeyRecord) -> None:
        """See :meth:`entitlements.ports.Ledger.confirm`."""
        account = self._accounts.get(customer)
        known = account.records.get(record.key) if account else None
        if account is not None and known is not None and known.hold == record.hold:
            account.records[record.key] = replace(known, confirmed=True, request="")
            if record.hold in account.holds:
                account.holds[record.hold].lapses = False

    def _lapse(self, account: _Account, now: int) -> None:
        until = min(now, self._watermark)
        for name, hold in list(account.holds.items()):
            if hold.lapses and hold.made + HOLD_US <= until:
                del account.holds[name]

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

    def refill(self, refills: Sequence[Refill], positions: Mapping[NodeId, Seq]) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.refill`."""
        self._owned()
        for refill in refills:
            if refill.mode is RefillMode.WIPE:
                self._accounts.pop(refill.customer, None)
            elif refill.mode is RefillMode.KEPT and refill.customer not in self._accounts:
                raise LedgerLost("an account is gone")
            account = self._accounts.setdefault(refill.customer, _Account())
            account.positions |= positions
            account.settle(refill.settled)
            for usage in refill.features:
                for place in [p for p in account.totals if p[0] == usage.feature]:
                    del account.totals[place]
                account.totals.update({(usage.feature, s): t for s, t in usage.totals.items()})
                account.versions[usage.feature] = 1_000_000 * next(self._versions)
                account.current.pop(usage.feature, None)
                account.schedules[usage.feature] = usage.digest
                _refile(account, usage.feature, usage.starts)

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
            account.settle(usage.settled)
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


def _outdated(account: _Account, slot: Slot) -> bool:
    if slot.version is None:
        return False
    if slot.segment > account.current.get(slot.feature, -1):
        account.current[slot.feature] = slot.segment
        account.versions[slot.feature] += 1
        return True
    return account.versions[slot.feature] != slot.version


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
    account.holds[hold.id] = _Hold(made=demand.now, amounts=amounts)
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
