"""A Hypothesis state machine drives the real ledger on a real Valkey against a small model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from catalog.clock import to_datetime, to_micros
from catalog.errors import NotFound
from entitlements import burndown
from entitlements.balances import balance_of
from entitlements.given import GivenGrant
from entitlements.ports import HOLD_US
from entitlements.requests import KeyReused, Reason, ReservationEnded, ReservationExpired
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import (
    ACME,
    START,
    TOKENS,
    UNIT,
    World,
    catalog,
    contract,
    grant,
    right,
    soft,
)

AMOUNTS = st.sampled_from(["0.000000001", "1", "7.5", "20", "60"])
KEYS = st.sampled_from(["a", "b", "c", "d"])
SHAPES = [
    [right(amount="100")],
    [right(amount="40"), right(amount="80", every_months=None, priority=1)],
    [right(amount="50", rollover_max=Decimal(20))],
    [soft(right(amount="30"))],
    [right(amount="100", every_months=2)],
]


@dataclass(frozen=True)
class Open:
    """A reservation that holds its units."""

    made: int
    expires: int
    held: int


def nanos(amount: str) -> int:
    """Nano-units."""
    return int(Decimal(amount) * UNIT)


class LedgerMachine(RuleBasedStateMachine):
    """Usage, voids, consumes, reservations, grants, crashes, time, contracts, losses of Redis.

    The model keeps every event that is in the log with its time, the units that a consume holds
    without its event, and open reservations. What is left is burned anew from those, at every step.
    """

    server: ValkeyProcess
    loop: asyncio.AbstractEventLoop

    @initialize()
    def begin(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()
        self.ledger = RedisLedger(Address.parse(self.server.url), timeout_s=5.0)
        self.run(self.ledger.start())
        writer = RedisLedgerWriter(self.server.url)
        state = catalog(contract("k", *SHAPES[0]))
        self.world = World(ledger=self.ledger, writer=writer, state=state)
        self.events: dict[int, tuple[int, int]] = {}  # seq -> (time, nanos)
        self.answers: dict[str, tuple[Any, Any, int]] = {}
        self.open: dict[str, Open] = {}
        self.settled: dict[str, tuple[str, Any]] = {}
        self.gone: set[str] = set()
        self.deadlines: dict[str, int] = {}
        self.grants: dict[str, GivenGrant] = {}
        self.stuck: list[tuple[str, str, int]] = []  # held without an event: key, amount, made at
        self.catch_up()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def catch_up(self) -> None:
        self.world.follow()
        self.run(self.world.refresh())

    def available(self) -> int:
        """Left now, by the model: every event burned anew, less what is held without one."""
        now = self.world.clock.now_us()
        schedule = self.world.schedules().of(ACME)[TOKENS]
        history = schedule.history(now)
        totals: dict[int, int] = {}
        for when, used in self.events.values():
            segment = schedule.segment_at(when)
            if segment is not None:
                totals[segment.start] = totals.get(segment.start, 0) + used
        held = [(made, nanos(amount)) for _, amount, made in self.stuck]
        held += [(one.made, one.held) for one in self.open.values()]
        for made, amount in held:
            segment = schedule.segment_at(made)
            if segment is not None:
                totals[segment.start] = totals.get(segment.start, 0) + amount
        return burndown.standing(history, totals).available

    def softly(self) -> bool:
        """Whether decisions may pass the allowance now."""
        now = self.world.clock.now_us()
        return self.world.schedules().of(ACME)[TOKENS].segment_at(now).soft

    @rule(amount=AMOUNTS, days_ago=st.sampled_from([0, 0, 1, 20, 45]))
    def ingest(self, amount: str, days_ago: int) -> None:
        now = to_datetime(self.world.clock.now_us())
        when = now - timedelta(days=days_ago)
        seq = self.world.use(amount, at=when)
        self.events[seq] = (to_micros(when), nanos(amount))

    @rule(index=st.integers(0, 50))
    def void(self, index: int) -> None:
        if self.events:
            seq = sorted(self.events)[index % len(self.events)]
            self.world.void(seq)
            del self.events[seq]

    @rule(amount=AMOUNTS, key=KEYS)
    def consume(self, amount: str, key: str) -> None:
        self.catch_up()
        before, now = self.available(), self.world.clock.now_us()
        known = self.known(key)
        try:
            answer = self.run(self.world.consume((TOKENS, amount), key=key))
        except KeyReused:
            assert known is not None
            assert known[0] != (amount, 0)
            return
        if known is not None:
            assert known[0] == (amount, 0), "other content was not refused"
            assert answer == known[1]
            return
        waiting = [entry for entry in self.stuck if entry[0] == key]
        fits = nanos(amount) <= before
        softly = self.softly()
        if waiting:
            assert answer.allowed
            self.stuck.remove(waiting[0])
            now = waiting[0][2]
        else:
            assert answer.allowed == (fits or softly), "oversold, or refused with units left"
        if answer.allowed:
            self.answers[key] = ((amount, 0), answer, now)
            self.events[self.world.tail.records.height] = (now, nanos(amount))

    @rule(amount=AMOUNTS, key=KEYS, ttl_s=st.sampled_from([1, 60, 3600, 86_400]))
    def reserve(self, amount: str, key: str, ttl_s: int) -> None:
        self.catch_up()
        before, now = self.available(), self.world.clock.now_us()
        known = self.known(key)
        try:
            answer = self.run(self.world.reserve((TOKENS, amount), key=key, ttl_s=ttl_s))
        except KeyReused:
            assert known is not None
            assert known[0] != (amount, ttl_s)
            return
        if known is not None:
            assert known == ((amount, ttl_s), answer)
            return
        fits = nanos(amount) <= before
        assert answer.decision.allowed == (fits or self.softly()), "oversold, or refused"
        if answer.decision.allowed:
            self.answers[key] = ((amount, ttl_s), answer, now)
            self.deadlines[answer.reservation] = expires = now + ttl_s * 1_000_000
            self.open[answer.reservation] = Open(made=now, expires=expires, held=nanos(amount))

    @rule(index=st.integers(0, 5), amount=AMOUNTS)
    def settle(self, index: int, amount: str) -> None:
        names = sorted({*self.open, *self.settled, *self.gone})
        if not names:
            return
        self.catch_up()
        name = names[index % len(names)]
        before, seq = self.available(), self.world.tail.records.height
        try:
            answer = self.run(self.world.settle(name, (TOKENS, amount)))
        except NotFound:
            assert self.forgotten(name)
            return
        except ReservationExpired:
            assert name in self.gone or self.forgotten(name)
            return
        except ReservationEnded:
            assert name in self.gone or self.settled[name][0] != amount
            return
        if name in self.settled:
            assert (amount, answer) == self.settled[name]
            return
        one = self.open[name]
        excess = max(0, nanos(amount) - one.held)
        assert answer.allowed == (excess <= max(0, before) or self.softly())
        if answer.allowed:
            del self.open[name]
            self.settled[name] = (amount, answer)
            self.record(one, nanos(amount), seq)

    def forgotten(self, name: str) -> bool:
        """Whether a rebuilt ledger need not know a reservation any more."""
        return self.deadlines[name] + 24 * 3600 * 1_000_000 <= self.world.clock.now_us()

    def record(self, one: Open, amount: int, seq: int) -> None:
        """The settle's events: the hold's part when it was made, what exceeds it now."""
        now = self.world.clock.now_us()
        schedule = self.world.schedules().of(ACME)[TOKENS]
        parts = [(one.made, min(amount, one.held)), (now, max(0, amount - one.held))]
        if schedule.segment_at(one.made) == schedule.segment_at(now):
            parts = [(one.made, amount)]
        for number, part in enumerate((part for part in parts if part[1]), start=1):
            self.events[seq + number] = part

    @rule(index=st.integers(0, 5))
    def release(self, index: int) -> None:
        names = sorted({*self.open, *self.settled, *self.gone})
        if not names:
            return
        name = names[index % len(names)]
        try:
            self.run(self.world.release(name))
        except NotFound:
            assert self.forgotten(name)
            return
        except ReservationEnded:
            assert name in self.settled
            return
        assert name not in self.settled or self.forgotten(name)
        if name not in self.settled:
            self.open.pop(name, None)
            self.gone.add(name)

    @rule(
        name=st.sampled_from(["g", "h"]),
        amount=AMOUNTS,
        priority=st.integers(-1, 1),
        days=st.sampled_from([1, 30, 90]),
        rollover_max=st.sampled_from([None, "5"]),
    )
    def give(
        self, name: str, amount: str, priority: int, days: int, rollover_max: str | None
    ) -> None:
        """Give a grant, or revoke the one of that name."""
        now = to_datetime(self.world.clock.now_us())
        known = self.grants.get(name)
        if known is None:
            until = now + timedelta(days=days)
            given = {"priority": priority, "until": until, "rollover_max": rollover_max}
            self.grants[name] = grant(name, amount, since=now, **given)
        elif known.revoked_at is None:
            self.grants[name] = replace(known, revoked_at=to_micros(now))
        self.world.give(self.grants[name])
        self.catch_up()

    def known(self, key: str) -> tuple[str, Any] | None:
        """The first answer under a key, as long as it is kept; what is held counts as asked."""
        found = self.answers.get(key)
        if found is not None and self.world.clock.now_us() - found[2] < 24 * 3600 * 1_000_000:
            return found[0], found[1]
        return None

    @rule(amount=AMOUNTS, key=st.sampled_from(["x", "y"]))
    def crash_before_the_event(self, amount: str, key: str) -> None:
        """The gateway dies between the script and the append."""
        self.catch_up()
        if any(held[0] == key for held in self.stuck):
            return
        now = self.world.clock.now_us()
        self.world.sink.broken = ConnectionError("killed")
        try:
            answer = self.run(self.world.consume((TOKENS, amount), key=key))
            assert not answer.allowed
        except ConnectionError:
            self.stuck.append((key, amount, now))
        self.world.sink.broken = None

    @rule(seconds=st.sampled_from([1, 59, 61, 3600, 86_400, 20 * 86_400]))
    def pass_time(self, seconds: int) -> None:
        """The clock moves and the log with it; holds without an event lapse after 60 s."""
        now = self.world.clock.now_us() + seconds * 1_000_000
        self.world.clock.set(now)
        self.world.heartbeat()
        self.catch_up()
        self.stuck = [held for held in self.stuck if held[2] + HOLD_US > now]
        expired = {name for name, one in self.open.items() if one.expires <= now}
        self.gone |= expired
        self.open = {name: one for name, one in self.open.items() if name not in expired}

    @rule(shape=st.sampled_from(SHAPES), extra=st.booleans(), later=st.booleans())
    def change_contract(self, shape: list, extra: bool, later: bool) -> None:
        start = (START - timedelta(days=40 if later else 0)).date()
        contracts = [contract("k", *shape, start=start)]
        if extra:
            contracts.append(contract("extra", right(amount="15")))
        self.world.state(*contracts)
        self.catch_up()

    @rule()
    def lose_redis(self) -> None:
        """FLUSHALL: hard limits recover, and what was held without an event is gone."""
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()
        answer = self.run(self.world.check((TOKENS, "0.5")))
        assert answer.items[0].reason in {Reason.RECOVERING, None}
        assert (
            answer.allowed
            == self.world.schedules().of(ACME)[TOKENS].segment_at(self.world.clock.now_us()).soft
        )
        self.stuck = []
        self.catch_up()

    @rule()
    def restart_the_reader(self) -> None:
        """Another process takes up where the ledger says it stands."""
        self.world.reader._published_s = 0.0
        self.world.reader._publish()
        self.world.reader = self.world.new_reader()

    @invariant()
    def balance_is_the_models(self) -> None:
        """After the dust: what is shown is what the model burns, to the billionth."""
        if not hasattr(self, "world"):
            return
        self.catch_up()
        account = self.run(self.ledger.account(ACME, now=self.world.clock.now_us()))
        shown = balance_of(
            self.world.schedules(), ACME, TOKENS, account=account, now=self.world.clock.now_us()
        )
        left = self.available()
        assert shown.balance == max(0, left)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert self.world.reader.recount() == []
            self.run(self.ledger.close())
            self.world.writer.close()


@pytest.mark.slow
def test_the_ledger_does_what_the_model_says() -> None:
    """Random days in the life of one account: never oversold, never withheld, always exact."""
    assert datetime(2026, 11, 1, tzinfo=UTC) == START
    with tempfile.TemporaryDirectory() as folder, ValkeyProcess(Path(folder) / "v") as server:
        loop = asyncio.new_event_loop()
        LedgerMachine.server, LedgerMachine.loop = server, loop
        shape = settings(max_examples=15, stateful_step_count=30, deadline=None)
        with structlog.testing.capture_logs():
            run_state_machine_as_test(LedgerMachine, settings=shape)
        loop.close()
