"""Features that are allowed while Redis is slow or away: promptly, durably, and counted after."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catalog.pricebooks import Limit
from entitlements.decisions import Decisions
from entitlements.ports import LedgerUnavailable
from entitlements.requests import Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import CALLS, TOKENS, World, catalog, contract, right

PROMPTLY_S = 0.15
"""50 ms, and what a busy machine adds."""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    folder: Path = tmp_path_factory.mktemp("vk")
    with ValkeyProcess(folder / "v.sock") as process:
        yield process


@pytest.fixture
async def world(server: ValkeyProcess) -> AsyncIterator[World]:
    """100 hard tokens, which are allowed without the ledger, and 5 hard calls, which are not."""
    writer = RedisLedgerWriter(server.url)
    ledger = RedisLedger(Address.parse(server.url))
    await ledger.start()
    state = catalog(contract("k", right(), right(CALLS, "5")))
    made = World(ledger=ledger, writer=writer, state=state)
    made.decisions = Decisions(
        ledger=ledger,
        schedules=made.schedules,
        clock=made.clock,
        sink=made.sink,
        allowed_without_ledger=frozenset({TOKENS}),
    )
    made.follow()
    await made.refresh()
    yield made
    await ledger.close()
    writer.close()


async def up_again(world: World) -> None:
    """Wait for the gateway's connection."""
    await asyncio.sleep(0.05)
    for _ in range(200):
        if world.ledger.ready:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("never connected again")


async def test_a_frozen_server_allows_what_was_named_and_counts_it(
    world: World, server: ValkeyProcess
) -> None:
    """SIGSTOP: tokens go on, calls are denied, all within 50 ms; afterwards every token counts."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for turn in range(4):
            began = time.monotonic()
            answer = await world.consume((TOKENS, "30"), key=f"t{turn}")
            assert answer.allowed
            assert answer.items[0].balance is None, "nobody knows what is left"
            denied = await world.consume((TOKENS, "1"), (CALLS, "1"))
            assert [one.reason for one in denied.items] == [None, Reason.LEDGER_UNAVAILABLE]
            assert time.monotonic() - began < 2 * PROMPTLY_S
        assert (await world.check((TOKENS, "1"))).allowed
        retried = await world.consume((TOKENS, "30"), key="t0")
        assert retried.allowed
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await up_again(world)
    assert world.sink.appended == 4
    world.follow()
    assert not (await world.consume((TOKENS, "1"))).allowed
    account = await world.ledger.account("acme", now=world.clock.now_us())
    assert sum(account.totals.values()) == 120 * 10**9
    world.pass_time(61)  # what was denied without an answer was held all the same: it lapses
    world.follow()
    await world.refresh()
    account = await world.ledger.account("acme", now=world.clock.now_us())
    assert sum(account.held.values()) == 0
    assert world.reader.recount() == []


async def test_a_reserve_without_the_ledger_is_held_when_it_is_back(
    world: World, server: ValkeyProcess
) -> None:
    """Killed: reserved all the same; the rebuilt ledger holds it, and it settles once."""
    server.kill()
    await asyncio.sleep(0.05)
    reserved = await world.reserve((TOKENS, "30"), ttl_s=3600)
    assert reserved.decision.allowed
    with pytest.raises(LedgerUnavailable):
        await world.settle(reserved, (TOKENS, "20"))
    server.start()
    await asyncio.to_thread(world.follow)
    await up_again(world)
    assert await world.left() == 70
    assert (await world.settle(reserved, (TOKENS, "20"))).allowed
    world.follow()
    assert await world.left() == 80
    assert world.reader.recount() == []


async def test_soft_and_unlimited_features_go_on(world: World, server: ValkeyProcess) -> None:
    """Frozen, then gone: a soft limit is no reason to refuse; all that was let pass counts."""
    soft_tokens = right(amount="100", limit=Limit.SOFT)
    world.state(contract("k", soft_tokens, right(CALLS, None, unlimited=True)))
    world.decisions = Decisions(
        ledger=world.ledger, schedules=world.schedules, clock=world.clock, sink=world.sink
    )
    world.follow()
    assert (await world.check((TOKENS, "1"), (CALLS, "1"))).allowed  # what is first is not timed
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for turn in range(3):
            began = time.monotonic()
            answer = await world.consume((TOKENS, "60"), (CALLS, "1"), key=f"s{turn}")
            assert answer.allowed
            assert time.monotonic() - began < PROMPTLY_S
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await up_again(world)
    world.follow()
    account = await world.ledger.account("acme", now=world.clock.now_us())
    assert sorted(account.totals.values()) == [3 * 10**9, 180 * 10**9]
    assert sum(account.held.values()) == 0
    assert world.reader.recount() == []


async def test_without_a_policy_everything_is_denied(world: World, server: ValkeyProcess) -> None:
    """The default of a hard limit: no ledger, no yes."""
    server.kill()
    await asyncio.sleep(0.05)
    for answer in (
        await world.consume((CALLS, "1")),
        (await world.reserve((CALLS, "1"))).decision,
    ):
        assert answer.items[0].reason is Reason.LEDGER_UNAVAILABLE
    server.start()
