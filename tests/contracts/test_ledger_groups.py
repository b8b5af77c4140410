"""Decisions asked together: what one of them costs is not at the others' expense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.ids import FeatureId
from entitlements.answers import Asked
from entitlements.checks import Check
from entitlements.ports import KeyRecord, LedgerUnavailable, Question, UsageEvent
from entitlements.requests import Consume, Decision, KeyReused, Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import WAITING_MAX, Address
from storage.redis.scripts import DECIDE
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.fault_proxy import FaultProxy
from tests.ledger_world import ACME, CALLS, TOKENS, World, catalog, contract, item, right, soft

NEIGHBOURS = [f"c{number}" for number in range(200)]


@asynccontextmanager
async def new_world(valkey: ValkeyProcess, ledger: RedisLedger) -> AsyncIterator[World]:
    """100 hard tokens for acme, which has neighbours without a contract."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    writer = RedisLedgerWriter(valkey.url)
    names = {name: (name,) for name in ["acme", *NEIGHBOURS]}
    state = catalog(contract("k", right()), customers=names)
    world = World(ledger=ledger, writer=writer, state=state)
    world.follow()
    await ledger.start()
    await world.refresh()
    try:
        yield world
    finally:
        await ledger.close()
        writer.close()


def asked_of(world: World, names: Sequence[str]) -> list[Asked]:
    """A token of each, under a key of its own."""
    return [
        world.decisions.ask_consume(
            Consume(customer=name, items=[item(TOKENS, "1")], key=f"{name}-{number}")
        )
        for number, name in enumerate(names)
    ]


def calls_of(client: redis.Redis, command: str) -> int:
    stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_accounts_that_are_not_there_are_asked_about_together(valkey: ValkeyProcess) -> None:
    """Two hundred neighbours without an account, and acme is answered after one more question."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        asked = asked_of(world, ["acme", *NEIGHBOURS])
        with redis.Redis.from_url(valkey.url) as client:
            before = calls_of(client, "hmget")
            decided = await world.decisions.consume_all(asked)
            assert calls_of(client, "hmget") - before < len(NEIGHBOURS) / 2
        assert isinstance(decided[0], Decision)
        assert decided[0].allowed
        assert decided[1:] == [None] * len(NEIGHBOURS), "to be asked again, alone"


async def test_a_forgotten_script_is_loaded_once_for_all(valkey: ValkeyProcess) -> None:
    """And a whole group is decided with it, each key once."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        demands = [each.demand for each in asked_of(world, ["acme"] * 101)]
        with redis.Redis.from_url(valkey.url) as client:
            client.script_flush()
            before = calls_of(client, "script|load")
            verdicts = await ledger.decide_all(demands)
            assert calls_of(client, "script|load") - before == 1
            assert client.script_exists(DECIDE.sha) == [True]
        records = [verdict.record for verdict in verdicts if verdict and verdict.allowed]
        assert len([one for one in records if isinstance(one, KeyRecord)]) == 100
        assert await world.left() == 0


async def test_twenty_thousand_checks_leave_room_for_a_consume(valkey: ValkeyProcess) -> None:
    """They were all sent at once: more than may wait, and the next were refused."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        [plan] = world.decisions.checks.plan([Check(ACME, [item(TOKENS, "1")])])
        assert plan.question is not None
        slots = plan.question.slots
        many = [Question(customer=ACME, slots=slots) for _ in range(WAITING_MAX)]
        looking = asyncio.create_task(ledger.look(many, now=world.clock.now_us()))
        await asyncio.sleep(0)
        assert (await world.consume((TOKENS, "1"))).allowed
        assert all(verdict and verdict.allowed for verdict in await looking)


async def test_the_second_question_has_what_the_first_left_of_the_time(
    valkey: ValkeyProcess, tmp_path: Path
) -> None:
    """What is held must be asked of the script: one slow answer is in time, two are not."""
    async with FaultProxy(tmp_path / "p.sock", valkey.socket_path) as proxy:
        ledger = RedisLedger(Address(path=str(proxy.path)), timeout_s=0.5)
        async with new_world(valkey, ledger) as world:
            assert (await world.consume((TOKENS, "10"))).allowed, "held until it is followed"
            assert ledger._poll is not None
            ledger._poll.cancel()
            await asyncio.sleep(0.05)
            proxy.delay_s = 0.35
            began_s = time.monotonic()
            [plan] = world.decisions.checks.plan([Check(ACME, [item(TOKENS, "1")])])
            [decision] = await world.decisions.checks.decide([plan])
            assert 0.4 < time.monotonic() - began_s < 0.65
            assert decision is not None
            assert decision.items[0].reason is Reason.LEDGER_UNAVAILABLE
            proxy.delay_s = 0
            await asyncio.sleep(0.3)
            assert await world.left() == 90


async def test_one_that_the_log_refuses_does_not_refuse_the_others(valkey: ValkeyProcess) -> None:
    """In the middle of a group: its neighbours are recorded, once, and answered as allowed."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        refused: list[str] = []

        async def record_all(many: Sequence[Sequence[UsageEvent]]) -> list[bool]:
            refused.append(many[1][0].id)
            return [
                await world.sink.record(events) if events[0].id not in refused else False
                for events in many
            ]

        world.sink.record_all = record_all  # type: ignore[attr-defined]
        asked = asked_of(world, ["acme"] * 3)
        again = world.decisions.ask_consume(
            Consume(customer=ACME, items=[item(TOKENS, "1")], key="acme-0")
        )
        other = world.decisions.ask_consume(
            Consume(customer=ACME, items=[item(TOKENS, "2")], key="acme-0")
        )
        first, second, third, *same = await world.decisions.consume_all([*asked, again, other])
        assert same == [None, None], "the key is known: nothing was done, each is asked alone"
        assert [isinstance(one, Decision) and one.allowed for one in (first, second, third)] == [
            True,
            False,
            True,
        ]
        world.follow()
        assert world.sink.appended == 2
        assert world.reader.recount() == []


async def test_a_log_that_takes_nothing_is_told_to_each(valkey: ValkeyProcess) -> None:
    """A member that is denied keeps its answer; retries count once when the log is back."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        world.sink.record_all = lambda many: recorded(world, many)  # type: ignore[attr-defined]
        denied = world.decisions.ask_consume(
            Consume(customer=ACME, items=[item(TOKENS, "101")], key="much")
        )
        world.sink.broken = LedgerUnavailable("no log")
        one, no, two = await world.decisions.consume_all(
            [asked_of(world, ["acme"])[0], denied, asked_of(world, ["acme", "acme"])[1]]
        )
        assert isinstance(one, LedgerUnavailable)
        assert isinstance(two, LedgerUnavailable)
        assert isinstance(no, Decision)
        assert no.items[0].reason is Reason.INSUFFICIENT
        world.sink.broken = None
        for key in ("acme-0", "acme-1"):
            assert (await world.consume((TOKENS, "1"), key=key)).allowed
        world.follow()
        assert (world.sink.appended, await world.left()) == (2, 98)


REQUESTS = st.tuples(
    st.sampled_from(["k1", "k2", "k3", "k4"]),
    st.lists(
        st.tuples(
            st.sampled_from([TOKENS, TOKENS, CALLS]), st.sampled_from(["1", "30", "60", "100"])
        ),
        min_size=1,
        max_size=3,
    ),
)


class Model:
    """100 hard tokens, 5 soft calls: what one consume after the other comes to."""

    def __init__(self) -> None:
        self.left = {TOKENS: 100, CALLS: 5}
        self.known: dict[str, tuple[Any, Any]] = {}

    def at_once(self, key: str, items: list[tuple[FeatureId, str]]) -> Any:
        """The balances; false: denied; null: the key is known."""
        if key in self.known:
            return None
        left, shown = dict(self.left), []
        for feature, amount in items:
            left[feature] -= int(amount)
            shown.append(max(0, left[feature]) * 10**9)
        if left[TOKENS] < 0:
            return False
        self.left, self.known[key] = left, (items, shown)
        return shown

    def alone(self, key: str, items: list[tuple[FeatureId, str]]) -> Any:
        """Once more, of a key that is known: the first answer, or a conflict."""
        first, shown = self.known[key]
        return shown if first == items else KeyReused


def balances_of(decision: Decision) -> Any:
    """What the model says of it."""
    return [one.balance for one in decision.items] if decision.allowed else False


@settings(max_examples=40)
@given(groups=st.lists(st.lists(REQUESTS, min_size=2, max_size=8), min_size=1, max_size=3))
def test_a_group_is_its_members_one_after_the_other(
    valkey: ValkeyProcess, groups: list[list[Any]]
) -> None:
    """Keys twice in a group, with the same and other content, several items of one place."""

    async def run() -> None:
        ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
        async with new_world(valkey, ledger) as world:
            world.state(contract("k", right(), soft(right(CALLS, "5"))))
            world.follow()
            world.sink.record_all = lambda many: recorded(world, many)  # type: ignore[attr-defined]
            model = Model()
            for group in groups:
                requests = [consume_of(key, items) for key, items in group]
                asked = [world.decisions.ask_consume(request) for request in requests]
                decided = await world.decisions.consume_all(asked)
                shown = [None if one is None else balances_of(one) for one in decided]
                assert shown == [model.at_once(*each) for each in group]
                for each, request, one in zip(group, requests, decided, strict=True):
                    if one is None:
                        assert await outcome(world, request) == model.alone(*each)
            world.follow()
            assert await world.left() == model.left[TOKENS]
            assert world.reader.recount() == []

    asyncio.run(run())


async def recorded(world: World, many: Sequence[Sequence[UsageEvent]]) -> list[bool]:
    return [await world.sink.record(events) for events in many]


def consume_of(key: str, items: list[tuple[FeatureId, str]]) -> Consume:
    return Consume(customer=ACME, items=[item(*each) for each in items], key=key)


async def outcome(world: World, request: Consume) -> Any:
    try:
        return balances_of(await world.decisions.consume(request))
    except KeyReused:
        return KeyReused


async def test_while_the_ledger_is_rebuilt_a_batch_is_told_so_at_once(
    valkey: ValkeyProcess,
) -> None:
    """Nobody waits for what is lost: each check is looked at and asked once, all together."""
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=5)
    async with new_world(valkey, ledger) as world:
        with redis.Redis.from_url(valkey.url) as client:
            client.flushall()
            await world.refresh()
            before = calls_of(client, "hmget"), calls_of(client, "evalsha")
            asked = [(ACME, [item(TOKENS, str(amount))]) for amount in range(1, 501)]
            decided = await world.decisions.check_all(asked)
            after = calls_of(client, "hmget"), calls_of(client, "evalsha")
        assert {each.items[0].reason for each in decided} == {Reason.RECOVERING}
        assert after[0] - before[0] < 50
        assert after[1] == before[1]
