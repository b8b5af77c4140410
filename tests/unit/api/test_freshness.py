"""Freshness: reads wait for what they must see, and no longer than they may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from api.freshness import AsOfInFuture, Freshness, ReadersBehind, SocketHeartbeats
from catalog.clock import Micros
from catalog.ids import SpecId
from tests.logs_in_memory import MemoryTail, event, heartbeat

SPEC = SpecId("s")


class Positions:
    """Covers what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.reached = 0
        self.asked: list[tuple[tuple[SpecId, ...], int]] = []

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether the test lets it be so."""
        self.asked.append((tuple(specs), as_of))
        return self.reached >= as_of


class Setting:
    """Two nodes; the heartbeat of one that is alive moves its log."""

    def __init__(self, *, wait_s_max: float = 5.0) -> None:
        self.alive, self.silent = MemoryTail("n1"), MemoryTail("n2")
        self.nodes = [self.alive]
        self.positions = Positions()
        self.beats = 0
        self.freshness = Freshness(
            watermark_tails=lambda: {tail.node: tail for tail in self.nodes},
            positions=self.positions,
            heartbeats=self.beat,
            wait_s_max=wait_s_max,
        )

    async def beat(self) -> None:
        """Write a heartbeat on the node that is alive."""
        self.beats += 1
        self.alive.append(heartbeat())


async def test_without_as_of_it_is_everything_acknowledged():
    """A heartbeat moves the watermark past every event before, and the read waits for facts."""
    setting = Setting()
    setting.alive.append(event())
    before = setting.alive.durable().received_at
    waiting = asyncio.create_task(setting.freshness.settle(None, [SPEC]))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    setting.positions.reached = setting.alive.durable().received_at
    settled = await waiting
    assert settled.as_of == settled.watermark == setting.alive.durable().received_at > before
    assert ((SPEC,), settled.as_of) == setting.positions.asked[-1]


async def test_a_given_as_of_needs_no_heartbeat():
    """The past is complete already."""
    setting = Setting()
    setting.alive.append(event(), event())
    setting.positions.reached = 10**17
    past = Micros(setting.alive.durable().received_at - 1)
    settled = await setting.freshness.settle(past, [])
    assert (past, 0) == (settled.as_of, setting.beats)


async def test_an_as_of_just_ahead_is_reached_by_a_heartbeat():
    """A caller who says "now" is not told that now is the future."""
    setting = Setting()
    setting.alive.append(event())
    setting.positions.reached = 10**17
    soon = Micros(setting.alive.durable().received_at + 1)
    assert soon == (await setting.freshness.settle(soon, [])).as_of
    with pytest.raises(AsOfInFuture):
        await setting.freshness.settle(Micros(10**16), [])


async def test_a_silent_node_holds_the_watermark_back():
    """The smallest durable instant counts, also of a node that was never heard of."""
    setting = Setting()
    setting.positions.reached = 10**17
    setting.alive.append(event())
    setting.silent.append(event())
    setting.nodes.append(setting.silent)
    for _ in range(3):
        settled = await setting.freshness.settle(None, [])
        assert setting.silent.durable().received_at == settled.watermark
    setting.nodes.append(MemoryTail("n3"))
    assert (await setting.freshness.settle(None, [])).watermark == 0


async def test_readers_that_stay_behind_are_a_bounded_wait():
    """The caller is told to come back, not kept."""
    setting = Setting(wait_s_max=0.05)
    setting.alive.append(event())
    with pytest.raises(ReadersBehind):
        await asyncio.wait_for(setting.freshness.settle(None, [SPEC]), timeout=5)


async def test_heartbeats_ask_every_gateway_socket(tmp_path: Path):
    """Gateways are asked over their sockets; a dead one and a hanging one are passed over."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"received_at":1}')
        await writer.drain()
        writer.close()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    (tmp_path / "n3.sock").touch()
    servers = [
        await asyncio.start_unix_server(answer, tmp_path / "n1.sock"),
        await asyncio.start_unix_server(hang, tmp_path / "n2.sock"),
        await asyncio.start_unix_server(answer, tmp_path / "worker.sock"),
    ]
    heartbeats = SocketHeartbeats(tmp_path, newest=lambda: Micros(7), timeout_s=0.3)
    try:
        await asyncio.wait_for(heartbeats(), timeout=5)
        assert len(asked) == 1
        assert asked[0].startswith(b"POST /internal/heartbeat/7 ")
    finally:
        await heartbeats.close()
        for server in servers:
            server.close()
            await server.wait_closed()
