"""A small world around a ledger: a catalog, a log in memory, the reader, decisions, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from api.readers.ledger import LedgerReader
from api.readers.pages import Gathering
from catalog.clock import FixedClock, to_datetime, to_micros
from catalog.contracts import Contract, Customer, SubjectClaim
from catalog.events import RecordKind
from catalog.ids import ContractId, CustomerId, FeatureId, MeterId, Subject
from catalog.meters import Aggregation, Meter
from catalog.periods import FOREVER
from catalog.pricebooks import Entitlement, Invoicing, Limit, Timing
from catalog.products import Feature, FeatureKind
from catalog.snapshot import Catalog, Chain, Version
from entitlements.balances import balance_of
from entitlements.decisions import Decisions
from entitlements.given import NO_GRANTS, GivenGrant
from entitlements.ports import Ledger, LedgerEntry, LedgerWriter, UsageEvent
from entitlements.requests import Consume, Decision, Item, Release, Reserve, Reserved, Settle
from entitlements.reservations import Reservations
from entitlements.schedules import CurrentSchedules
from storage.memory.ledger import MemoryLedger
from tests.logs_in_memory import MemoryTail

START = datetime(2026, 11, 1, tzinfo=UTC)
UNIT = 10**9
ACME = CustomerId("acme")
TOKENS, CALLS, SEATS, PLAN = (FeatureId(f) for f in ("tokens", "calls", "seats", "plan"))


def chain(*values, revision: int = 1, since: Sequence = (None,)) -> Chain:
    """Versions that follow each other from ``since`` on."""
    ends = [*since[1:], None]
    versions = tuple(
        Version(
            value=value,
            effective_from=begin,
            effective_until=end,
            recorded_at=0,
            revision=revision,
        )
        for value, begin, end in zip(values, since, ends, strict=True)
    )
    return Chain(versions=versions)


def right(feature: FeatureId = TOKENS, amount: str | None = "100", **given) -> Entitlement:
    """An entitlement, monthly and hard unless told otherwise."""
    defaults = {"every_months": 1, "amount": None if amount is None else Decimal(amount)}
    return Entitlement(feature=feature, **(defaults | given))


def contract(name: str = "k", *rights: Entitlement, customer: str = "acme", **given) -> Contract:
    defaults = {
        "currency": "USD",
        "invoicing": Invoicing(timing=Timing.ARREARS),
        "start": date(2026, 11, 1),
    }
    return Contract(
        id=ContractId(name),
        customer=CustomerId(customer),
        entitlements=rights,
        **(defaults | given),
    )


def catalog(
    *contracts: Contract, revision: int = 1, customers: dict[str, tuple[str, ...]] | None = None
) -> Catalog:
    """Tokens (sum of data.n) and calls (count of llm events), seats and plan; these contracts."""
    meters = [
        Meter(
            id=MeterId("m_tokens"),
            event_types=("llm",),
            aggregation=Aggregation.SUM,
            value="data.n",
            dimensions=(("model", "data.model.name"),),
        ),
        Meter(id=MeterId("m_calls"), event_types=("call",), aggregation=Aggregation.COUNT),
        Meter(
            id=MeterId("m_peak"), event_types=("llm",), aggregation=Aggregation.MAX, value="data.n"
        ),
    ]
    features = [
        Feature(id=TOKENS, kind=FeatureKind.METERED, meter=MeterId("m_tokens")),
        Feature(id=CALLS, kind=FeatureKind.METERED, meter=MeterId("m_calls")),
        Feature(id=FeatureId("peak"), kind=FeatureKind.METERED, meter=MeterId("m_peak")),
        Feature(id=SEATS, kind=FeatureKind.BOOLEAN),
        Feature(id=PLAN, kind=FeatureKind.STATIC),
    ]
    who = customers or {"acme": ("acme",), "bolt": ("bolt",)}
    held = [
        Customer(
            id=CustomerId(name),
            name=name,
            subjects=tuple(SubjectClaim(subject=Subject(s)) for s in subjects),
        )
        for name, subjects in who.items()
    ]
    return Catalog(
        revision=revision,
        meters={meter.id: chain(meter) for meter in meters},
        features={feature.id: chain(feature) for feature in features},
        customers={customer.id: chain(customer, revision=revision) for customer in held},
        contracts={one.id: chain(one, revision=revision) for one in contracts},
    )


class TailSink:
    """Appends to the log in memory as a gateway would: copies of what is there are left out."""

    def __init__(self, tail: MemoryTail, clock: FixedClock) -> None:
        self.tail = tail
        self.clock = clock
        self.broken: Exception | None = None
        self.appended = 0
        self.known: dict[str, str] = {}
        self.written: set[str] = set()

    @property
    def logged(self):
        return self.tail.durable().received_at

    async def append(self, entry: LedgerEntry, events: Sequence[UsageEvent] = ()) -> None:
        await self.record(events)
        row = {"kind": entry.kind, "id": entry.reservation, "subject": entry.customer}
        append(self.tail, self.clock, row | {"time": to_datetime(entry.time), "data": entry.data})

    async def record(self, events: Sequence[UsageEvent]) -> bool:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        for one in events:
            if self.known.setdefault(one.id, one.data) != one.data:
                return False
            if one.id in self.written:
                continue
            self.written.add(one.id)
            self.appended += 1
            row = {"kind": RecordKind.EVENT, "source": "tallyman", "id": one.id}
            row |= {"type": one.type, "subject": one.subject, "data": one.data}
            append(self.tail, self.clock, row | {"time": to_datetime(one.time)})
        return True


def append(tail: MemoryTail, clock: FixedClock, row: dict) -> None:
    """Append a record as received now, strictly after the one before."""
    last = tail.durable().received_at
    tail.append(row, received_at=to_datetime(max(clock.now_us(), last + 1)))


class World:
    """Everything but the network. ``follow`` lets the reader catch up."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        writer: LedgerWriter,
        state: Catalog,
        fence=lambda: None,
        submit_within_s: float = 60.0,
    ) -> None:
        self.clock = FixedClock(to_micros(START) + 3600 * 1_000_000)
        self.catalog = state
        self.grants = NO_GRANTS
        self.ledger = ledger
        self.writer = writer
        self.fence = fence
        self.tail = MemoryTail(start=START)
        self.sink = TailSink(self.tail, self.clock)
        self.schedules = CurrentSchedules(lambda: self.catalog, lambda: self.grants)
        self.reader = self.new_reader()
        # Nothing is lost under way here but where a test says so: a busy machine may be slow.
        parts = {"ledger": ledger, "schedules": self.schedules, "clock": self.clock}
        parts |= {"sink": self.sink, "submit_within_s": submit_within_s}
        self.decisions, self.reservations = Decisions(**parts), Reservations(**parts)
        self.keys = 0

    def new_reader(self) -> LedgerReader:
        """A reader as after a restart of the worker."""
        return LedgerReader(
            tails=lambda: {self.tail.node: self.tail},
            schedules=CurrentSchedules(lambda: self.catalog, lambda: self.grants),
            writer=self.writer,
            clock=self.clock,
            fence=self.fence,
            grace_s=0.0,
        )

    def follow(self) -> None:
        """Run the reader until it has nothing to do. It looks for a lost ledger at once."""
        self.reader._published_s = 0.0
        self.reader._gathering = Gathering(rows=1, age_s=0.0)  # as if a moment had passed
        while self.reader.step():
            pass

    async def refresh(self) -> None:
        """Let the gateway hear from the reader, as it does on its own every 50 ms."""
        refresh = getattr(self.ledger, "_refresh", None)
        if refresh is not None:
            await refresh()

    def state(self, *contracts: Contract, **given) -> None:
        """Change the catalog."""
        self.catalog = catalog(*contracts, revision=self.catalog.revision + 1, **given)

    def give(self, *grants: GivenGrant) -> None:
        """State grants (again: a revoked one)."""
        revision = self.grants.revision + 1
        stated = [replace(grant, revision=revision) for grant in grants]
        self.grants = self.grants.extended(stated, revision=revision)

    def use(self, n: str, *, at: datetime | None = None, subject: str = "acme", **given) -> int:
        """Ingest an event; returns its seq."""
        row = {"kind": RecordKind.EVENT, "source": "app", "id": f"e{self.tail.records.height}"}
        row |= {"type": "llm", "subject": subject, "data": f'{{"n":"{n}"}}'}
        row |= {"time": at or to_datetime(self.clock.now_us())}
        append(self.tail, self.clock, row | given)
        return self.tail.records.height

    def void(self, seq: int) -> None:
        row = {"kind": RecordKind.VOID, "source": "app", "id": "-", "target": seq}
        append(self.tail, self.clock, row)

    async def consume(self, *items: tuple[FeatureId, str], key: str | None = None, **given):
        """Consume; every call is a new request unless it has a key."""
        self.keys += 1
        request = Consume(
            customer=given.pop("customer", ACME),
            items=tuple(item(feature, amount) for feature, amount in items),
            key=key or f"auto-{self.keys}",
            **given,
        )
        return await self.decisions.consume(request)

    async def reserve(self, *items: tuple[FeatureId, str], key: str | None = None, **given):
        """Reserve for ``ttl_s`` seconds (60)."""
        self.keys += 1
        request = Reserve(
            customer=given.pop("customer", ACME),
            items=tuple(item(feature, amount) for feature, amount in items),
            key=key or f"auto-{self.keys}",
            ttl_us=given.pop("ttl_s", 60) * 1_000_000,
            **given,
        )
        return await self.decisions.reserve(request)

    async def settle(self, reserved: Reserved | str, *items: tuple[FeatureId, str], **given):
        request = Settle(
            customer=given.pop("customer", ACME),
            reservation=reserved if isinstance(reserved, str) else reserved.reservation,
            items=tuple(item(feature, amount) for feature, amount in items),
            **given,
        )
        return await self.reservations.settle(request)

    async def release(self, reserved: Reserved | str, customer=ACME) -> None:
        reservation = reserved if isinstance(reserved, str) else reserved.reservation
        await self.reservations.release(Release(customer=customer, reservation=reservation))

    def pass_time(self, seconds: float) -> None:
        """Move the clock; the idle node tells so."""
        self.clock.set(self.clock.now_us() + round(seconds * 1_000_000))
        self.heartbeat()

    def heartbeat(self) -> None:
        """An idle node's record of the time."""
        append(self.tail, self.clock, {"kind": RecordKind.HEARTBEAT, "time": None})

    async def check(self, *items: tuple[FeatureId, str], customer=ACME) -> Decision:
        return await self.decisions.check(customer, [item(f, amount) for f, amount in items])

    async def left(self, feature: FeatureId = TOKENS) -> Decimal:
        """The balance a check shows."""
        shown = (await self.check((feature, "0"))).items[0].balance
        return Decimal(shown or 0) / UNIT


def item(feature: FeatureId, amount: str) -> Item:
    return Item(feature=feature, amount=int(Decimal(amount) * UNIT))


def grant(name: str, amount: str, *, since: datetime = START, **given) -> GivenGrant:
    """A given grant of tokens to acme, for ever unless told otherwise."""
    until = given.pop("until", None)
    rollover = given.pop("rollover_max", None)
    defaults = {"customer": ACME, "feature": TOKENS, "priority": 0, "recorded_at": 0}
    return GivenGrant(
        id=name,
        amount=int(Decimal(amount) * UNIT),
        effective=to_micros(since),
        expires=FOREVER if until is None else to_micros(until),
        rollover_max=None if rollover is None else int(Decimal(rollover) * UNIT),
        **(defaults | given),
    )


def soft(one: Entitlement) -> Entitlement:
    return replace(one, limit=Limit.SOFT)


def lose(world: World) -> None:
    """FLUSHALL."""
    if isinstance(world.ledger, MemoryLedger):
        world.ledger.flush()
    else:
        world.writer._client.flushall()


async def shown(world: World, feature: FeatureId = TOKENS, customer: CustomerId = ACME):
    account = await world.ledger.account(customer, now=world.clock.now_us())
    assert account is not None
    return balance_of(
        world.schedules(), customer, feature, account=account, now=world.clock.now_us()
    )
