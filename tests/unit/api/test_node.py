"""When a node writes heartbeats, and what it does when it cannot."""

from __future__ import annotations

import asyncio

import pytest

from api.node import Node, OpenNode
from catalog.clock import FixedClock, Micros
from catalog.errors import DomainError
from ingest.ports import LogUnavailable
from storage.log.node_log import LogFull

SECOND = 1_000_000


class Pipeline:
    """Records heartbeats at the clock's time, or fails like the log would."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.beats: list[int] = []
        self.broken: DomainError | None = None
        self.last = Micros(0)

    async def heartbeat(self) -> Micros:
        """Write one."""
        if self.broken is not None:
            raise self.broken
        self.last = max(self.clock.now_us(), Micros(self.last + 1))
        self.beats.append(self.last)
        return self.last


def opened(*, sandbox: bool) -> tuple[Node, Pipeline, FixedClock]:
    """A node that is open, with the last record at 100 s."""
    clock = FixedClock(100 * SECOND)
    pipeline = Pipeline(clock)
    pipeline.last = clock.now_us()

    async def close() -> None:
        return None

    node = Node(clock=clock, sandbox=sandbox, heartbeat_s=0.04)
    node.opened(
        OpenNode(
            pipeline=pipeline, last_received_at=lambda: pipeline.last, handlers={}, close=close
        )
    )
    return node, pipeline, clock


async def beat_for(node: Node, seconds: float) -> None:
    """Let it beat for a while; what it raises is raised."""
    beating = asyncio.create_task(node.beat())
    done, _ = await asyncio.wait([beating], timeout=seconds)
    if done:
        await beating
    beating.cancel()


@pytest.mark.parametrize("sandbox", [True, False])
async def test_an_idle_node_beats_once_the_clock_is_ahead(*, sandbox: bool) -> None:
    """A clock that stands still needs none; after a move there is exactly one."""
    node, pipeline, clock = opened(sandbox=sandbox)
    await beat_for(node, 0.05)
    assert pipeline.beats == []

    clock.set(101 * SECOND)
    await beat_for(node, 0.1)

    assert pipeline.beats == [101 * SECOND]


async def test_a_small_move_counts_in_a_sandbox_only() -> None:
    """Of the machine's clock a little is just not idle for long enough yet."""
    for sandbox, expected in ((True, [100 * SECOND + 1]), (False, [])):
        node, pipeline, clock = opened(sandbox=sandbox)
        clock.set(100 * SECOND + 1)
        await beat_for(node, 0.05)
        assert pipeline.beats == expected


async def test_a_broken_log_ends_the_beating_and_a_full_disk_does_not() -> None:
    """A full disk may have room later; after anything else only a restart tells what is durable."""
    node, pipeline, clock = opened(sandbox=False)
    clock.set(200 * SECOND)
    pipeline.broken = LogFull("the disk is full")
    await beat_for(node, 0.05)
    assert await node.check() == "the disk is full"

    pipeline.broken = None
    await beat_for(node, 0.05)
    assert await node.check() is None

    clock.set(300 * SECOND)
    pipeline.broken = LogUnavailable("EIO")
    with pytest.raises(LogUnavailable):
        await beat_for(node, 1)
    assert await node.check() == "EIO"


async def test_before_and_after_it_is_open_there_is_no_heartbeat() -> None:
    """Asked for one, it says why."""
    node = Node(clock=FixedClock(0), sandbox=False, heartbeat_s=1)
    with pytest.raises(LogUnavailable, match="being opened"):
        await node.heartbeat()
    node, _, _ = opened(sandbox=False)
    await node.close()
    with pytest.raises(LogUnavailable, match="stopping"):
        await node.heartbeat()
