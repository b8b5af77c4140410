"""Checks that are kept and read by a plain command beside the script that decides: the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import Conflict
from entitlements.checks import Check
from entitlements.ports import LedgerUnavailable, Question, Status
from entitlements.requests import Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.scripts import account_key
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import (
    ACME,
    CALLS,
    TOKENS,
    World,
    catalog,
    contract,
    item,
    lose,
    right,
    soft,
)

AMOUNTS = st.sampled_from(["0.000000001", "1", "7.5", "40", "100"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["use", "consume", "stuck", "reserve", "settle"]), AMOUNTS),
    st.tuples(st.sampled_from(["release", "follow", "follow", "lose", "more", "void"]), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([1, 30, 61, 3600, 40 * 86_400])),
)


@asynccontextmanager
async def new_world(valkey: ValkeyProcess) -> AsyncIterator[World]:
    """100 hard tokens and 5 soft calls, on an empty server."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    writer = RedisLedgerWriter(valkey.url)
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    await ledger.start()
    state = catalog(contract("k", right(), soft(right(CALLS, "5"))))
    world = World(ledger=ledger, writer=writer, state=state)
    world.follow()
    await world.refresh()
    yield world
    await ledger.close()
    writer.close()


class Player:
    """Does what a step says. What is asked wrongly is refused, and changes nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reserved: list[Any] = []
        self.amount = 100

    async def play(self, what: str, how: Any) -> None:
        with suppress(Conflict):
            await getattr(self, what)(how)

    async def use(self, amount: str) -> None:
        self.world.use(amount)

    async def void(self, _: None) -> None:
        if seq := self.world.tail.records.height:
            self.world.void(seq)

    async def consume(self, amount: str) -> None:
        await self.world.consume((TOKENS, amount))

    async def stuck(self, amount: str) -> None:
        """Held, and the event is never written: it lapses."""
        self.world.sink.broken = LedgerUnavailable("no log")
        try:
            await self.world.consume((TOKENS, amount), (CALLS, "1"))
        except LedgerUnavailable:
            pass
        finally:
            self.world.sink.broken = None

    async def reserve(self, amount: str) -> None:
        reserved = await self.world.reserve((TOKENS, amount), ttl_s=30)
        if reserved.reservation:
            self.reserved.append(reserved)

    async def settle(self, amount: str) -> None:
        if self.reserved:
            await self.world.settle(self.reserved.pop(), (TOKENS, amount))

    async def release(self, _: None) -> None:
        if self.reserved:
            await self.world.release(self.reserved.pop())

    async def follow(self, _: None) -> None:
        self.world.follow()
        await self.world.refresh()

    async def lose(self, _: None) -> None:
        lose(self.world)
        await self.follow(None)

    async def more(self, _: None) -> None:
        self.amount += 10
        self.world.state(contract("k", right(amount=str(self.amount)), soft(right(CALLS, "5"))))
        await self.follow(None)

    async def pass_(self, seconds: int) -> None:
        self.world.pass_time(seconds)


def kept_checks() -> list[Check]:
    """What is asked over and over: one item, several of one feature, of two, and of nobody."""
    a, b, call = item(TOKENS, "7.5"), item(TOKENS, "60"), item(CALLS, "3")
    return [Check(ACME, asked) for asked in ([a], [b], [a, b, a], [call, a, call])] + [
        Check("bolt", [a]),
        Check("nobody", [a]),
    ]


@settings(max_examples=40)
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_a_look_says_what_the_script_says(valkey: ValkeyProcess, steps: list[Any]) -> None:
    """After every step of any history: first looked at as kept, then decided by the script."""

    async def run() -> None:
        async with new_world(valkey) as world:
            player, kept = Player(world), kept_checks()
            for what, how in steps:
                await player.play("pass_" if what == "pass" else what, how)
                asking = world.decisions.checks
                looked = await asking.finish(kept, await asking.decide(asking.plan(kept)))
                assert looked == await asking.finish(kept, [None] * len(kept)), (what, how)

    asyncio.run(run())


async def test_while_nothing_changes_the_verdict_is_the_same_object(valkey: ValkeyProcess) -> None:
    """And where something does, another one; twice in one call it is asked once."""
    async with new_world(valkey) as world:
        check = Check(ACME, [item(TOKENS, "1")])
        [plan] = world.decisions.checks.plan([check])
        assert plan.question is not None
        now = world.clock.now_us()
        first, again = await world.ledger.look([plan.question, plan.question], now=now)
        assert first is again
        assert (await world.ledger.look([plan.question], now=now)) == [first]
        assert (await world.ledger.look([plan.question], now=now))[0] is first
        world.use("10")
        world.follow()
        [later] = await world.ledger.look([plan.question], now=now)
        assert later.left == (90 * 10**9,)


async def test_an_account_that_is_ahead_or_filed_otherwise_is_asked_again(
    valkey: ValkeyProcess,
) -> None:
    """Under another schedule, or another gateway is in a later segment: the script's answers."""
    async with new_world(valkey) as world:
        check = Check(ACME, [item(TOKENS, "1")])
        [plan] = world.decisions.checks.plan([check])
        assert plan.question is not None
        now = world.clock.now_us()
        with redis.Redis.from_url(valkey.url) as client:
            client.hset(account_key(ACME), "c:tokens", str(now + 1))
            [verdict] = await world.ledger.look([plan.question], now=now)
            client.hdel(account_key(ACME), "c:tokens")
        assert (verdict.status, verdict.at) == (Status.BEHIND, now + 1)
        world.state(contract("k", right(every_months=2)))
        [plan] = world.decisions.checks.plan([check])
        assert plan.question is not None
        [verdict] = await world.ledger.look([plan.question], now=now)
        assert verdict.status is Status.UNSEEDED


async def test_a_damaged_account_and_a_foreign_epoch_are_nobody_elses(
    valkey: ValkeyProcess,
) -> None:
    """One that cannot be read is unavailable, one of another epoch is not filled; the rest is."""
    async with new_world(valkey) as world:
        names = ["acme", "bolt", "carl"]
        state = [contract(f"k-{name}", right(), customer=name) for name in names]
        world.state(*state, customers={name: (name,) for name in names})
        world.follow()
        await world.refresh()
        kept = [Check(name, [item(TOKENS, "1")]) for name in names]
        asking = world.decisions.checks
        await asking.decide(asking.plan(kept))
        with redis.Redis.from_url(valkey.url) as client:
            client.set(account_key("acme"), "no hash")
            client.hset(account_key("bolt"), "e", "another")
        decided = await asking.decide(asking.plan(kept))
        assert decided[0] is not None
        assert decided[0].items[0].reason is Reason.LEDGER_UNAVAILABLE
        assert decided[1] is None, "to be asked again, alone: it may be filled in a moment"
        assert decided[2] is not None
        assert decided[2].allowed
        questions = [plan.question for plan in asking.plan(kept) if plan.question]
        verdicts = await world.ledger.look(questions, now=world.clock.now_us())
        assert [v and v.status for v in verdicts] == [None, Status.UNSEEDED, Status.DECIDED]


async def test_without_a_server_nobody_knows() -> None:
    """A ledger that was never reached has no verdicts."""
    ledger = RedisLedger(Address(path="/nowhere"))
    with pytest.raises(LedgerUnavailable):
        await ledger.look([Question(customer=ACME, slots=())], now=0)
