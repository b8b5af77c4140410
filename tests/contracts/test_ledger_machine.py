"""A Hypothesis state machine drives the real ledger on a real Valkey against a small model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

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
from entitlements import burndown
from entitlements.balances import balance_of
from entitlements.ports import HOLD_US
from entitlements.requests import KeyReused, Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import ACME, START, TOKENS, UNIT, World, catalog, contract, right, soft

AMOUNTS = st.sampled_from(["0.000000001", "1", "7.5", "20", "60"])
KEYS = st.sampled_from(["a", "b", "c", "d"])
SHAPES = [
    [right(amount="100")],
    [right(amount="40"), right(amount="80", every_months=None, priority=1)],
    [right(amount="50", rollover_max=Decimal(20))],
    [soft(right(amount="30"))],
    [right(amount="100", every_months=2)],
]


class LedgerMachine(RuleBasedStateMachine):
    """Usage, late usage, voids, consumes, retries, crashes, time, contracts and losses of Redis.

    The model keeps every event that is in the log with its time, and the units that a consume
    holds without its event. What is left is burned anew from those, at every step.
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
        for when, nanos in self.events.values():
            segment = schedule.segment_at(when)
            if segment is not None:
                totals[segment.start] = totals.get(segment.start, 0) + nanos
        held = sum(
            int(float(amount) * UNIT)
            for _, amount, made in self.stuck
            if history and schedule.segment_at(made) == history[-1]
        )
        return burndown.standing(history, totals).available - held

    @rule(amount=AMOUNTS, days_ago=st.sampled_from([0, 0, 1, 20, 45]))
    def ingest(self, amount: str, days_ago: int) -> None:
        now = to_datetime(self.world.clock.now_us())
        when = now - timedelta(days=days_ago)
        seq = self.world.use(amount, at=when)
        self.events[seq] = (to_micros(when), int(float(amount) * UNIT))

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
            assert known[0] != amount
            return
        if known is not None:
            assert known[0] == amount, "other content was not refused"
            assert answer == known[1]
            return
        waiting = [entry for entry in self.stuck if entry[0] == key]
        fits = int(float(amount) * UNIT) <= before
        softly = self.world.schedules().of(ACME)[TOKENS].segment_at(now).soft
        if waiting:
            assert answer.allowed
            self.stuck.remove(waiting[0])
            now = waiting[0][2]
        else:
            assert answer.allowed == (fits or softly), "oversold, or refused with units left"
        if answer.allowed:
            self.answers[key] = (amount, answer, now)
            self.events[self.world.tail.records.height] = (now, int(float(amount) * UNIT))

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
        self.world.reader._publish(due=True)
        self.world.reader = self.world.new_reader()

    @invariant()
    def balance_is_the_models(self) -> None:
        """After the dust: what is shown is what the model burns, to the billionth."""
        if not hasattr(self, "world"):
            return
        self.catch_up()
        account = self.run(self.ledger.account(ACME))
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


def test_the_ledger_does_what_the_model_says() -> None:
    """Random days in the life of one account: never oversold, never withheld, always exact."""
    assert datetime(2026, 11, 1, tzinfo=UTC) == START
    with tempfile.TemporaryDirectory() as folder, ValkeyProcess(Path(folder) / "v") as server:
        loop = asyncio.new_event_loop()
        LedgerMachine.server, LedgerMachine.loop = server, loop
        shape = settings(max_examples=15, stateful_step_count=25, deadline=None)
        with structlog.testing.capture_logs():
            run_state_machine_as_test(LedgerMachine, settings=shape)
        loop.close()
