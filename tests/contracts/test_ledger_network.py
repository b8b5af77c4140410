"""A network that swallows, loses answers or breaks off: prompt, exact, and never a hang."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from entitlements.requests import Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.fault_proxy import FaultProxy
from tests.ledger_world import TOKENS, World, catalog, contract, right

PROMPTLY_S = 0.15
"""50 ms, and what a busy machine adds."""


@dataclass
class Reached:
    """A world whose gateway reaches its ledger through a proxy; the reader reaches it directly."""

    world: World
    proxy: FaultProxy

    async def up(self) -> None:
        for _ in range(300):
            await asyncio.sleep(0.02)
            if self.world.ledger.ready:
                return
        raise AssertionError("never connected again")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with ValkeyProcess(tmp_path_factory.mktemp("vk") / "v.sock") as process:
        yield process


@pytest.fixture
async def reached(server: ValkeyProcess) -> AsyncIterator[Reached]:
    """100 hard tokens, with the service's own timeout."""
    writer = RedisLedgerWriter(server.url)
    path = server.socket_path.with_name("proxy.sock")
    async with FaultProxy(path, server.socket_path) as proxy:
        ledger = RedisLedger(Address(path=str(path)))
        world = World(ledger=ledger, writer=writer, state=catalog(contract("k", right())))
        world.follow()
        await ledger.start()
        found = Reached(world, proxy)
        await found.up()
        yield found
        await ledger.close()
    writer.close()


async def test_a_black_hole_is_answered_for_in_time(reached: Reached) -> None:
    """Connections open and nothing comes back: each decision is denied within 50 ms."""
    reached.proxy.swallow = True
    for turn in range(12):
        began_s = time.monotonic()
        denied = await reached.world.consume((TOKENS, "1"), key=f"k{turn}")
        assert denied.items[0].reason is Reason.LEDGER_UNAVAILABLE
        assert time.monotonic() - began_s < PROMPTLY_S
    reached.proxy.swallow = False
    await reached.up()
    assert (await reached.world.consume((TOKENS, "100"))).allowed


async def test_a_lost_answer_is_found_again_under_its_key(reached: Reached) -> None:
    """The script ran and its answer is gone: the retry gets it, and the units count once."""
    reached.proxy.mute = True
    lost = await reached.world.consume((TOKENS, "60"), key="k")
    assert lost.items[0].reason is Reason.LEDGER_UNAVAILABLE
    assert reached.world.sink.appended == 0
    reached.proxy.mute = False
    reached.proxy.cut()
    await asyncio.sleep(0.05)
    await reached.up()
    again = await reached.world.consume((TOKENS, "60"), key="k")
    assert (again.allowed, again.items[0].balance) == (True, 40 * 10**9)
    reached.world.follow()
    assert reached.world.sink.appended == 1
    assert await reached.world.left() == 40
    assert reached.world.reader.recount() == []


async def test_a_connection_that_breaks_off_is_made_again(reached: Reached) -> None:
    """Cut ten times under forty clients: none hangs, and what was allowed is what is used."""
    allowed = 0

    async def client(number: int) -> None:
        nonlocal allowed
        for turn in range(10):
            answer = await reached.world.consume((TOKENS, "1"), key=f"{number}-{turn}")
            allowed += answer.allowed
            await asyncio.sleep(0.01)

    async def vandal() -> None:
        for _ in range(10):
            await asyncio.sleep(0.02)
            reached.proxy.cut()

    await asyncio.wait_for(asyncio.gather(vandal(), *map(client, range(40))), 60)
    await reached.up()
    reached.world.follow()
    assert allowed == reached.world.sink.appended <= 100
    assert reached.world.reader.recount() == []
