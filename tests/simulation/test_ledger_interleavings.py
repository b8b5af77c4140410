"""Gateways, a reader and a clock interleaved at every step, by a seed: nothing is ever oversold.

Each call of the ledger and of the log is a step; between two steps the seed decides who goes on,
who is killed, whose answer is lost, when the reader follows, the clock steps or Redis is emptied.
After every step the account is looked at. Afterwards the balance is counted from the log.

A failure names its seed: ``simulate`` runs that one again, step by step the same.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import redis

from catalog.events import RecordKind
from entitlements.decisions import Decisions
from entitlements.ports import Demand, Ending, Ledger, LedgerLost, LedgerUnavailable
from entitlements.requests import (
    Consume,
    KeyReused,
    Release,
    ReservationEnded,
    ReservationExpired,
    Reserve,
    Settle,
)
from entitlements.reservations import Reservations
from storage.memory.ledger import MemoryLedger
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import ACME, TOKENS, UNIT, World, catalog, contract, item, lose, right

CLIENTS = 8
REFUSALS = (KeyReused, ReservationExpired, ReservationEnded, LedgerUnavailable, LedgerLost)
STEPS = 160
SECOND = 1_000_000


class Turns:
    """Whoever waits here goes on when the seed says so: one at a time, to the next place."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Task[Any], asyncio.Future[None]] = {}
        self.moved = asyncio.Event()

    def holds(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task stands here, and was not told to go on."""
        return task in self.waiting and not self.waiting[task].done()

    async def __call__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.waiting[task] = asyncio.get_running_loop().create_future()
        self.moved.set()
        try:
            await self.waiting[task]
        finally:
            self.waiting.pop(task, None)


def _name(task: asyncio.Task[Any]) -> str:
    return task.get_name()


class SteppedLedger:
    """A ledger whose every call is two steps: before it is sent, and before it is answered."""

    def __init__(self, inner: Ledger, turns: Turns, chance: random.Random) -> None:
        self._inner = inner
        self._turns = turns
        self._chance = chance
        self.losing = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def decide(self, demand: Demand) -> Any:
        return await self._stepped(lambda: self._inner.decide(demand))

    async def decide_all(self, demands: Sequence[Demand]) -> Any:
        return await self._stepped(lambda: self._inner.decide_all(demands))

    async def end(self, ending: Ending) -> Any:
        return await self._stepped(lambda: self._inner.end(ending))

    async def _stepped(self, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._turns()
        answer = await call()
        await self._turns()
        if self._chance.random() < self.losing:
            raise LedgerUnavailable("the answer was lost")
        return answer


class SteppedSink:
    """A log that answers a step after it has written.

    It writes in the order it is asked, so nothing comes between the question and its place.
    """

    def __init__(self, inner: Any, turns: Turns) -> None:
        self._inner = inner
        self._turns = turns

    @property
    def logged(self) -> Any:
        return self._inner.logged

    async def append(self, *args: Any) -> None:
        await self._inner.append(*args)
        await self._turns()

    async def record(self, *args: Any) -> bool:
        kept: bool = await self._inner.record(*args)
        await self._turns()
        return kept


@dataclass
class Told:
    """What clients were told, by key: units that were sold for good."""

    sold: dict[str, int] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)


class Simulation:
    """One world, one seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.turns = Turns()
        self.ledger = SteppedLedger(world.ledger, self.turns, self.chance)
        self.ledger.losing = self.chance.choice([0.0, 0.1])
        self.sink = SteppedSink(world.sink, self.turns)
        parts: dict[str, Any] = {"ledger": self.ledger, "schedules": world.schedules}
        parts |= {"clock": world.clock, "sink": self.sink, "submit_within_s": 60.0}
        self.decisions, self.reservations = Decisions(**parts), Reservations(**parts)
        self.told = Told()
        self.granted = self.chance.randint(1, 12)
        self.tasks: set[asyncio.Task[None]] = set()
        self.keys = 0

    async def run(self) -> None:
        state = right(amount=str(self.granted), every_months=None)
        self.world.state(contract("k", state))
        self.world.follow()
        await self.world.refresh()
        for _ in range(STEPS):
            while len(self.tasks) < CLIENTS:
                self._client()
            await self._settled_down()
            await self._step()
            await self._look()
        await self._finish()

    def _client(self) -> None:
        self.keys += 1
        # Some keys are asked for twice, by two gateways at once.
        key = f"key-{self.keys if self.chance.random() < 0.8 else max(1, self.keys - 1)}"
        client = self._consumes if self.chance.random() < 0.5 else self._reserves
        task = asyncio.create_task(client(key), name=f"client-{self.keys:05}")
        self.tasks.add(task)

    async def _settled_down(self) -> None:
        """Let everybody run to the next place where the seed decides."""
        while True:
            for task in sorted((task for task in self.tasks if task.done()), key=_name):
                self.tasks.discard(task)
                if not task.cancelled():
                    task.result()
            if all(self.turns.holds(task) for task in self.tasks):
                return
            self.turns.moved.clear()
            await asyncio.wait(
                [*self.tasks, moved := asyncio.ensure_future(self.turns.moved.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            moved.cancel()

    async def _step(self) -> None:
        chance = self.chance.random()
        if chance < 0.12:
            self._follow("followed")
        elif chance < 0.18:
            self._tick(self.chance.choice([1, 5, 20, 70]))
        elif chance < 0.20:
            self._tick(-self.chance.choice([1, 30, 3600]))
        elif chance < 0.215:
            await self._emptied()
        elif self.turns.waiting:
            task = self.chance.choice(sorted(self.turns.waiting, key=_name))
            if self.chance.random() < 0.08:
                self.told.seen["killed"] += 1
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            else:
                self.turns.waiting[task].set_result(None)
                await asyncio.sleep(0)

    def _follow(self, what: str) -> None:
        self.world.heartbeat()
        self.world.follow()
        self.told.seen[what] += 1

    def _tick(self, seconds: int) -> None:
        self.world.clock.set(self.world.clock.now_us() + seconds * SECOND)
        self.world.heartbeat()  # an idle node's, every second: the log knows how late it has been
        self.told.seen["back" if seconds < 0 else "on"] += 1

    async def _emptied(self) -> None:
        """FLUSHALL. Who is between script and append finishes before the rebuild, or is dead."""
        lose(self.world)
        await self.world.refresh()
        for task in sorted(self.tasks, key=_name):
            if self.chance.random() < 0.5:
                task.cancel()
        while self.tasks:
            await self._settled_down()
            for task in sorted(self.turns.waiting, key=_name):
                self.turns.waiting[task].set_result(None)
        self._follow("rebuilt")
        await self.world.refresh()

    async def _look(self) -> None:
        """Used and held are never more than was granted, whatever has just happened."""
        [account] = self.world.writer.accounts([ACME])
        if account is None:
            return
        taken = sum(account.totals.values()) + sum(account.held.values())
        assert 0 <= taken <= self.granted * UNIT, f"{taken / UNIT} of {self.granted}"
        assert all(amount >= 0 for amount in (*account.totals.values(), *account.held.values()))
        assert sum(self.told.sold.values()) <= self.granted
        if taken == self.granted * UNIT:
            self.told.seen["full"] += 1

    async def _finish(self) -> None:
        """Everybody stops, every deadline passes: what is left is granted less what the log has."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        self._tick(48 * 3600)
        self._follow("followed")
        await self.world.refresh()
        assert self.world.reader.recount() == []
        events = self.world.tail.records.filter(kind=RecordKind.EVENT.value, source="tallyman")
        assert events["id"].n_unique() == events.height
        used = sum(int(orjson.loads(text)["n"]) for text in events["data"])
        logged = {_key_of(text) for text in events["data"]}
        assert {key for key in self.told.sold if key.startswith("key")} <= logged, "acknowledged"
        assert sum(self.told.sold.values()) <= used <= self.granted
        assert await self.world.left() == self.granted - used

    async def _consumes(self, key: str) -> None:
        amount = 1 + len(key) % 3 if self.granted > 3 else 1
        with suppress(KeyReused):
            for _ in range(2):
                request = _consume(key, amount)
                answer = await self.decisions.consume(request)
                if answer.allowed:
                    self.told.sold[key] = amount
                    self.told.seen["consumed"] += 1
                    return

    async def _reserves(self, key: str) -> None:
        amount = self.chance.randint(1, 3)
        with suppress(
            KeyReused, ReservationExpired, ReservationEnded, LedgerUnavailable, LedgerLost
        ):
            reserved = await self.decisions.reserve(_reserve(key, amount))
            if reserved.reservation is None:
                return
            fate = self.chance.random()
            if fate < 0.2:
                self.told.seen["left open"] += 1
            elif fate < 0.4:
                release = Release(customer=ACME, reservation=reserved.reservation)
                await self.reservations.release(release)
                self.told.seen["released"] += 1
            else:
                used = self.chance.randint(0, amount + 1)
                settled = await self.reservations.settle(
                    Settle(customer=ACME, reservation=reserved.reservation, items=_items(used))
                )
                if settled.allowed and used:
                    self.told.sold[reserved.reservation] = used
                    self.told.seen["settled"] += 1


def _items(amount: int) -> tuple[Any, ...]:
    return (item(TOKENS, str(amount)),)


def _consume(key: str, amount: int) -> Consume:
    return Consume(customer=ACME, items=_items(amount), key=key)


def _reserve(key: str, amount: int) -> Reserve:
    return Reserve(customer=ACME, items=_items(amount), key=key, ttl_us=15 * SECOND)


def _key_of(data: str) -> str:
    """What a logged event answers for: a consume's key, or a reservation."""
    mark = orjson.loads(data)["tallyman"]
    name: str = mark.get("key") or mark["reservation"]
    return name


async def simulate(seed: int, world: World) -> Counter[str]:
    """Run one seed; answers what it came across."""
    world.clock.set(world.clock.now_us() + 86_400 * SECOND)
    simulation = Simulation(world, seed)
    try:
        await simulation.run()
    except BaseException as error:
        error.add_note(f"seed {seed}, {dict(simulation.told.seen)}")
        raise
    finally:
        for task in simulation.tasks:
            task.cancel()
    return simulation.told.seen


def in_memory() -> World:
    """The reference ledger."""
    memory = MemoryLedger()
    return World(ledger=memory, writer=memory, state=catalog())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with ValkeyProcess(tmp_path_factory.mktemp("vk") / "v.sock") as process:
        yield process


@pytest.fixture
async def on_valkey(server: ValkeyProcess) -> AsyncIterator[Callable[[], World]]:
    """Worlds on the real scripts, one after another."""
    writer = RedisLedgerWriter(server.url)
    ledger = RedisLedger(Address.parse(server.url), timeout_s=5.0)
    await ledger.start()

    def world() -> World:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return World(ledger=ledger, writer=writer, state=catalog())

    yield world
    await ledger.close()
    writer.close()


RARE = {"consumed", "settled", "released", "left open", "killed", "rebuilt", "full", "back"}
"""What the seeds together must come across, or they prove little."""


@pytest.mark.slow
async def test_every_interleaving_of_the_reference_is_exact() -> None:
    """Forty seeds on the ledger in memory."""
    seen: Counter[str] = Counter()
    for seed in range(40):
        seen += await simulate(seed, in_memory())
    assert set(seen) >= RARE, seen


async def test_every_interleaving_of_the_scripts_is_exact(
    on_valkey: Callable[[], World],
) -> None:
    """Fifteen seeds on a real Valkey: the same schedule, the real scripts."""
    seen: Counter[str] = Counter()
    for seed in range(15):
        seen += await simulate(seed, on_valkey())
    assert set(seen) >= RARE, seen


@pytest.mark.slow
async def test_many_more_interleavings(on_valkey: Callable[[], World]) -> None:
    """Seeds beyond those of every run."""
    for seed in range(100, 160):
        await simulate(seed, on_valkey())


async def test_a_seed_is_a_schedule() -> None:
    """The same seed comes across the same things, or a failure could not be run again."""
    assert await simulate(7, in_memory()) == await simulate(7, in_memory())
