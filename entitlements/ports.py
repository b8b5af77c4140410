"""What decisions and the reader need from the ledger, and decisions from the log.

The ledger is a cache: per customer it holds usage totals, holds and idempotency keys, each at a
known position of every node's log. All amounts are integer nano-units.

What every decision makes anew is a Struct: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from catalog.clock import SECOND_US, Micros
from catalog.errors import DomainError, Unavailable
from catalog.events import RESERVED_SOURCE, RecordKind
from catalog.ids import CustomerId, FeatureId, NodeId, Seq

SOURCE = RESERVED_SOURCE
"""The ``source`` of events that decisions record."""

HOLD_US = 60 * SECOND_US
KEPT_US = 24 * 3600 * SECOND_US
"""How long a consume's hold waits for its event, and how long a key is remembered."""


class LedgerUnavailable(Unavailable):
    """The ledger did not answer in time (or is not reachable). What it did is unknown."""

    code = "ledger_unavailable"


class LedgerLost(DomainError):
    """The ledger is not the one that was filled: it must be rebuilt before it is followed."""

    code = "ledger_lost"


class PositionOverlap(DomainError):
    """An account has applied part of this batch already: read positions and cut it anew."""

    code = "position_overlap"


class Gate(StrEnum):
    """How a feature's allowance binds a decision."""

    HARD = "hard"
    SOFT = "soft"
    UNLIMITED = "unlimited"


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One item as the ledger decides it.

    ``opening`` is what is available when the segment opens, what earlier segments still hold
    taken off. ``version`` guards it: the ledger's count of changes to earlier segments under which
    it was computed, null where it depends on none. ``schedule`` is the digest under which the
    ledger must have filed the usage.
    """

    feature: FeatureId
    schedule: str
    segment: Micros
    gate: Gate
    opening: int
    amount: int
    version: int | None = None


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a consume or a reserve leaves behind when it is allowed.

    ``digest`` tells another request under the same key from a retry. ``request`` is opaque to the
    ledger: what is needed to write the event (or to settle the reservation), byte for byte.
    ``expires`` is a reservation's deadline, null for a consume.
    """

    key: str
    id: str
    digest: str
    request: str
    expires: Micros | None = None


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's decision. ``hold=None`` only asks.

    ``refused``: an item is denied already. Nothing will be held, but a known key is still answered.
    ``logged`` is how far the gateway's own log has come: a clock that stepped back is behind it,
    and a hold must not lapse before the log has passed its event.
    """

    customer: CustomerId
    now: Micros
    slots: tuple[Slot, ...]
    hold: HoldRequest | None = None
    refused: bool = False
    logged: Micros = Micros(0)

    @property
    def lapses(self) -> Micros:
        """When what is held by it lapses, by the log's time."""
        return Micros(max(self.now, self.logged) + HOLD_US)


class Question(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """What a check asks of one customer, again and again: its slots have no version.

    Equal only to itself. ``noted`` is the ledger's own: what it made of the question before.
    """

    customer: CustomerId
    slots: tuple[Slot, ...]
    noted: object = None

    def demand(self, now: Micros) -> Demand:
        """The same at ``now``."""
        return Demand(customer=self.customer, now=now, slots=self.slots)


class Status(StrEnum):
    """What became of a demand.

    DECIDED: see ``allowed``. KNOWN: the key's first answer is returned. REUSED: the key stands
    for another request. STALE: an opening is out of date. BEHIND: another gateway has decided in
    a later segment already; see ``at``. UNSEEDED: the account is not yet filed under this schedule.
    LOST: the whole ledger is being rebuilt. EXPIRED: the reservation's units have returned.
    """

    DECIDED = "decided"
    KNOWN = "known"
    REUSED = "reused"
    STALE = "stale"
    BEHIND = "behind"
    UNSEEDED = "unseeded"
    LOST = "lost"
    EXPIRED = "expired"


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of an allowed consume or reserve: enough to answer and record it again.

    ``balances`` are those of the first answer, null where unlimited. ``confirmed``: its event (or
    hold) is durable; then ``request`` may be empty. ``expires``: see :class:`HoldRequest`. Unless
    confirmed, the hold lapses at ``lapses``, by the log's time: nothing may be recorded then.
    """

    key: str
    hold: str
    digest: str
    at: Micros
    balances: tuple[int | None, ...]
    request: str = ""
    confirmed: bool = False
    expires: Micros | None = None
    lapses: Micros = Micros(0)


class EndKind(StrEnum):
    """How a reservation ends, other than at its deadline."""

    SETTLE = "settle"
    RELEASE = "release"


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a reservation ended: enough to answer again and to record it again.

    ``balances`` are by slot of the first answer. ``confirmed``: it is durable; until then
    ``request`` is what is needed to write its records, before ``lapses``.
    """

    reservation: str
    kind: EndKind
    digest: str
    at: Micros
    balances: tuple[int | None, ...]
    request: str = ""
    confirmed: bool = False
    lapses: Micros = Micros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A reservation as the ledger knows it, ended or not. ``request`` is what reserve left."""

    id: str
    made: Micros
    expires: Micros
    request: str


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A settle or release to decide.

    One slot a feature. A slot's ``amount`` is what exceeds the hold and is decided like any other
    consume, now; ``kept`` is, by slot, how much of the hold is used. A slot with an empty
    ``schedule`` has no allowance now: nothing may exceed the hold. ``logged``: see :class:`Demand`.
    """

    customer: CustomerId
    reservation: str
    now: Micros
    kind: EndKind
    digest: str
    request: str
    slots: tuple[Slot, ...] = ()
    kept: tuple[int, ...] = ()
    logged: Micros = Micros(0)

    @property
    def lapses(self) -> Micros:
        """When the end lapses unless it is durable, by the log's time."""
        return Micros(max(self.now, self.logged) + HOLD_US)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's answer. ``passed`` and ``left`` are by slot, in order.

    ``left`` is what is available after the decision (it may be negative), ``allowed`` all or
    nothing. ``record`` is the key's record, ``end`` the reservation's: just made, or KNOWN.
    ``at`` is the instant BEHIND speaks of.
    """

    status: Status
    allowed: bool = False
    passed: tuple[bool, ...] = ()
    left: tuple[int, ...] = ()
    record: KeyRecord | None = None
    end: End | None = None
    at: Micros = Micros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One customer's account as read at once: totals and held by (feature, segment start)."""

    totals: Mapping[tuple[FeatureId, int], int] = field(default_factory=dict)
    held: Mapping[tuple[FeatureId, int], int] = field(default_factory=dict)
    versions: Mapping[FeatureId, int] = field(default_factory=dict)
    schedules: Mapping[FeatureId, str] = field(default_factory=dict)


class Ledger(Protocol):
    """The gateway's side. Every call answers within the adapter's timeout or raises."""

    @property
    def watermark(self) -> Micros:
        """Every node's log is applied up to here, as last heard from the reader."""
        ...

    async def decide(self, demand: Demand) -> Verdict:
        """Decide atomically; an allowed demand with a hold leaves it held, with its key.

        Holds lapse when the watermark is :data:`HOLD_US` beyond them, by the log's time and not by
        the clock: one whose event is in the log and not yet applied never does. A durable
        reservation returns at its deadline.

        Raises:
            LedgerUnavailable: decided or not is unknown. Retry under the same key.
        """
        ...

    async def decide_all(self, demands: Sequence[Demand]) -> list[Verdict | None]:
        """Decide many, each like :meth:`decide` on its own, at the cost of one round trip.

        Returns:
            The verdicts, in order. Null where :meth:`decide` would have raised for this one
            alone, e.g. because its account is damaged.

        Raises:
            LedgerUnavailable: decided or not is unknown, of any of them.
        """
        ...

    async def look(self, questions: Sequence[Question], *, now: Micros) -> list[Verdict | None]:
        """Decide questions like :meth:`decide_all` their demands.

        While nothing changes for a question, its verdict is the same object as before.

        Raises:
            LedgerUnavailable: nobody knows, of any of them.
        """
        ...

    async def account(self, customer: CustomerId, *, now: Micros) -> Account | None:
        """The customer's account at ``now``; None where it is lost or not yet filled.

        Raises:
            LedgerUnavailable: no answer in time.
        """
        ...

    def confirm(self, customer: CustomerId, record: KeyRecord) -> None:
        """Note that the event or hold is durable: its hold no longer lapses.

        Does not wait, may be lost: the reader does the same later.
        """
        ...

    async def reservation(self, customer: CustomerId, reservation: str) -> Reservation | None:
        """A reservation; None where there never was one.

        Raises:
            LedgerUnavailable: no answer in time.
            LedgerLost: the ledger is being rebuilt.
        """
        ...

    async def end(self, ending: Ending) -> Verdict:
        """Decide how a reservation ends; allowed, it can end no other way any more.

        All it held stays held, what exceeds that too, until :meth:`conclude`; without that the
        reservation is open again once the log has passed :data:`HOLD_US`.

        Returns:
            KNOWN: it has ended just so. REUSED: it has ended otherwise. EXPIRED. Or as for
            :meth:`decide`.

        Raises:
            LedgerUnavailable: decided or not is unknown. Asking again is safe.
        """
        ...

    def conclude(self, customer: CustomerId, end: End, kept: Mapping[FeatureId, int]) -> None:
        """Note that the end is durable: of the hold only ``kept`` stays, until it is applied.

        Does not wait, may be lost, like :meth:`confirm`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A reservation of the log, with where its units are held: (feature, segment start, amount)."""

    record: KeyRecord
    places: Sequence[tuple[FeatureId, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUsage:
    """What a stretch of one node's log means for one customer.

    ``deltas`` are (feature, segment start, change). ``settled`` are the keys whose last event is
    in it: their holds end. ``opened`` and ``ended`` are reservations. ``now``: a reservation whose
    deadline is not later holds nothing.
    """

    customer: CustomerId
    deltas: Sequence[tuple[FeatureId, int, int]]
    settled: Sequence[KeyRecord] = ()
    opened: Sequence[Opened] = ()
    ended: Sequence[End] = ()
    now: Micros = Micros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUsage:
    """All of a customer's usage of one feature, filed under a schedule.

    ``digest`` empty: the feature has no schedule any more. ``starts`` are the segment starts from
    the oldest open hold on, by which holds are filed anew.
    """

    feature: FeatureId
    digest: str
    totals: Mapping[int, int]
    starts: Sequence[int] = ()


class RefillMode(StrEnum):
    """What a refill finds.

    WIPE empties the account first, holds included: a rebuild. NEW may
    create it. KEPT must find it, since holds would be lost with it: else the ledger is lost.
    """

    WIPE = "wipe"
    NEW = "new"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """A customer's features computed from the log up to the reader's positions."""

    customer: CustomerId
    features: Sequence[FeatureUsage]
    mode: RefillMode
    settled: Sequence[KeyRecord] = ()
    opened: Sequence[Opened] = ()
    ended: Sequence[End] = ()
    now: Micros = Micros(0)


class LedgerWriter(Protocol):
    """The reader's side. One writer at a time; not thread-safe."""

    def positions(self) -> dict[NodeId, Seq] | None:
        """How far each node's log is applied; None where the ledger is lost or half filled."""
        ...

    def begin(self) -> None:
        """Start over under a new epoch: accounts of any other are void from here on."""
        ...

    def finish(self) -> None:
        """Declare the refilled ledger complete."""
        ...

    def refill(self, refills: Iterable[Refill], positions: Mapping[NodeId, Seq]) -> None:
        """Replace what is filed for these features; each account changes at once.

        Raises:
            LedgerLost: this is no longer the ledger :meth:`begin` or :meth:`positions` saw.
        """
        ...

    def apply(self, usages: Sequence[AccountUsage], *, node: NodeId, after: Seq, upto: Seq) -> None:
        """Apply records ``(after, upto]`` of ``node``. Exactly once per account, however often.

        Raises:
            LedgerLost: as for :meth:`refill`.
            PositionOverlap: an account lies strictly inside the range; others were applied.
        """
        ...

    def applied(self, customers: Sequence[CustomerId], node: NodeId) -> dict[CustomerId, Seq]:
        """Each account's own position in ``node``'s log, 0 for none."""
        ...

    def publish(self, positions: Mapping[NodeId, Seq], *, watermark: Micros) -> None:
        """Say how far the whole ledger is. Never before everything up to there is applied."""
        ...

    def accounts(self, customers: Sequence[CustomerId]) -> list[Account | None]:
        """Accounts as filed, for a recount."""
        ...


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a decision records."""

    id: str
    type: str
    subject: str
    time: Micros
    data: str


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A hold, settle or release as the log keeps it: what a rebuild replays."""

    kind: RecordKind
    reservation: str
    customer: CustomerId
    time: Micros
    data: str


class UsageSink(Protocol):
    """Where decisions record usage: the gateway's own log."""

    @property
    def logged(self) -> Micros:
        """When the log last received anything, by its own time: never less than before."""
        ...

    async def append(self, entry: LedgerEntry, events: Sequence[UsageEvent] = ()) -> None:
        """Make ``events`` and, after them, ``entry`` durable, all or none.

        Copies of events that are there are left out; an entry may be there several times.
        """
        ...

    async def record(self, events: Sequence[UsageEvent]) -> bool:
        """Make ``events`` durable, all or none; exact copies of what is there are fine.

        Returns:
            False where one of the ids stands for another event already: nothing new counts.
        """
        ...

    async def record_all(
        self, many: Sequence[Sequence[UsageEvent]]
    ) -> Sequence[bool | DomainError]:
        """Like :meth:`record` each, at the cost of one, with what that would raise in its place.

        What it raises is of them all.
        """
        ...
