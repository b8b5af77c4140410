"""What the ledger promises when Redis is killed, restored, frozen or emptied under load."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from catalog.ids import CustomerId
from entitlements.ports import LedgerUnavailable
from entitlements.requests import Reason
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.scripts import (
    SCRIPTS,
    account_key,
    deadlines_key,
    expiries_key,
    record_key,
    reservation_key,
)
from storage.redis.valkey import ValkeyProcess, answers
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import ACME, TOKENS, World, catalog, contract, item, right


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    folder: Path = tmp_path_factory.mktemp("vk")
    with ValkeyProcess(folder / "v.sock") as process:
        yield process


@pytest.fixture
async def world(server: ValkeyProcess) -> AsyncIterator[World]:
    """100 hard tokens on a server of our own, with the service's own timeout."""
    writer = RedisLedgerWriter(server.url)
    ledger = RedisLedger(Address.parse(server.url), timeout_s=0.5)
    await ledger.start()
    made = World(ledger=ledger, writer=writer, state=catalog(contract("k", right())))
    made.follow()
    await made.refresh()
    yield made
    await ledger.close()
    writer.close()


async def up_again(world: World) -> None:
    """Wait for the gateway's connection: first let the loop hear that the old one is gone."""
    await asyncio.sleep(0.05)
    for _ in range(200):
        if world.ledger._link.up and world.ledger._link._wire.open:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("never connected again")


async def test_a_killed_server_comes_back_rebuilt(world: World, server: ValkeyProcess) -> None:
    """Kill -9: unavailable, then recovering, then exact; no acknowledged unit is forgotten."""
    assert (await world.consume((TOKENS, "60"), key="a")).allowed
    server.kill()
    denied = await world.consume((TOKENS, "60"))
    assert denied.items[0].reason is Reason.LEDGER_UNAVAILABLE
    server.start()
    await up_again(world)
    denied = await world.consume((TOKENS, "60"))
    assert denied.items[0].reason is Reason.RECOVERING
    await asyncio.to_thread(until_followed, world)
    await world.refresh()
    assert await world.left() == 40
    assert world.reader.recount() == []


def until_followed(world: World) -> None:
    """What the reader's loop does: take a failed step again."""
    for _ in range(100):
        try:
            world.follow()
        except LedgerUnavailable:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the reader never got through")


async def test_an_old_snapshot_is_another_ledger(world: World, server: ValkeyProcess) -> None:
    """A server restored from before a consume denies until it is rebuilt from the log."""
    snapshot = server.socket_path.parent / "dump.rdb"
    with redis.Redis.from_url(server.url) as client:
        client.save()
    old = snapshot.read_bytes()
    assert (await world.consume((TOKENS, "90"))).allowed
    world.follow()
    server.kill()
    snapshot.write_bytes(old)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.hget("tallyman:ledger", "ready") == b"1", "the snapshot was not loaded"
    await up_again(world)
    denied = await world.consume((TOKENS, "90"))
    assert denied.items[0].reason is Reason.RECOVERING
    await asyncio.to_thread(until_followed, world)
    await world.refresh()
    assert await world.left() == 10


async def test_a_frozen_server_is_answered_for_in_time(server: ValkeyProcess) -> None:
    """SIGSTOP: every decision is denied within 50 ms of being asked; after SIGCONT all is well."""
    ledger = RedisLedger(Address.parse(server.url))
    await ledger.start()
    writer = RedisLedgerWriter(server.url)
    world = World(ledger=ledger, writer=writer, state=catalog(contract("k", right())))
    world.follow()
    await world.refresh()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(5):
            began = time.monotonic()
            denied = await world.consume((TOKENS, "1"), key="same")
            took_s = time.monotonic() - began
            assert denied.items[0].reason is Reason.LEDGER_UNAVAILABLE
            assert took_s < 0.15, "50 ms, and what a busy machine adds"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await up_again(world)
    assert (await world.consume((TOKENS, "1"), key="same")).allowed
    assert world.sink.appended == 1
    world.follow()
    assert await world.left() == 99
    await ledger.close()
    writer.close()


async def test_an_account_the_server_refuses_is_nobody_elses(
    world: World, server: ValkeyProcess
) -> None:
    """One damaged account: its checks and consumes are unavailable, those of others decided."""
    world.state(contract("k", right()), contract("b", right(), customer="bolt"))
    await asyncio.to_thread(until_followed, world)
    with redis.Redis.from_url(server.url) as client:
        client.set(account_key(ACME), "no hash")
    asked = [(CustomerId(name), [item(TOKENS, "5")]) for name in ("bolt", "acme", "bolt", "acme")]
    decided = await world.decisions.check_all(asked)
    reasons = [decision.items[0].reason for decision in decided]
    away = Reason.LEDGER_UNAVAILABLE
    assert reasons == [None, away, None, away]
    assert [decision.allowed for decision in decided] == [True, False, True, False]
    denied = await world.consume((TOKENS, "1"))
    assert denied.items[0].reason is away
    assert (await world.consume((TOKENS, "1"), customer=CustomerId("bolt"))).allowed


async def test_emptied_under_load_nothing_is_oversold(world: World, server: ValkeyProcess) -> None:
    """FLUSHALL five times while 20 clients race: every acknowledged unit counts, none beyond."""
    world.state(contract("k", right(amount="400")))
    world.decisions._submit_within_s, world.reader._grace_s = 0.2, 0.25
    stop = threading.Event()
    reader = threading.Thread(target=world.reader.run, args=(stop,))
    reader.start()
    allowed = 0

    async def client(number: int) -> None:
        nonlocal allowed
        for turn in range(60):
            answer = await world.consume((TOKENS, "1"), key=f"{number}-{turn}")
            allowed += answer.allowed
            await asyncio.sleep(0.02)

    async def vandal() -> None:
        with redis.Redis.from_url(server.url) as client:
            for _ in range(5):
                await asyncio.sleep(0.3)
                client.flushall()

    try:
        await asyncio.gather(vandal(), *(client(number) for number in range(20)))
        deadline_s = time.monotonic() + 60
        while allowed < 400 and time.monotonic() < deadline_s:
            allowed += (await world.consume((TOKENS, "1"))).allowed
            await asyncio.sleep(0.001)
    finally:
        stop.set()
        reader.join()
    until_followed(world)
    assert allowed == 400
    used = world.tail.records.filter(source="tallyman").height
    assert used == 400
    assert world.reader.recount() == []


def test_every_key_of_a_call_has_the_customers_hash_tag() -> None:
    """No script touches a key it was not given, and those given share one tag: cluster-safe."""
    keys = [account_key("a:b"), deadlines_key("a:b"), record_key("a:b", "{other}")]
    keys += [expiries_key("a:b"), reservation_key("a:b", "{other}")]
    assert {re.search(r"\{(.*?)\}", key)[1] for key in keys} == {"a:b"}
    for script in SCRIPTS:
        touched = re.findall(r"redis\.call\('[A-Z]+', ([A-Za-z]+(?:\[\w+\])?)", script.text)
        assert set(touched) <= {
            "account",
            "deadlines",
            "expiries",
            "record",
            "reservation",
            "KEYS[1]",
            "KEYS[2]",
            "KEYS[3]",
            "KEYS[k]",
        }


def test_the_private_server_listens_on_its_socket_alone(server: ValkeyProcess) -> None:
    """No TCP port, nobody else's permissions, nothing evicted, nothing persisted."""
    assert answers(server.socket_path)
    assert server.socket_path.stat().st_mode & 0o077 == 0
    with redis.Redis.from_url(server.url) as client:
        shown = client.config_get("*")
    assert (shown["port"], shown["save"], shown["appendonly"]) == ("0", "", "no")
    assert shown["maxmemory-policy"] == "noeviction"
