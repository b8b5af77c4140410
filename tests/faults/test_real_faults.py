"""Real faults in real processes, a few of each; ``make faults`` tries them by the hundred."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.log.frames import LogCorrupt
from storage.log.layout import hot_name
from tests.faults import power, tracer
from tests.faults.alone import KEY, NODE, Place, place, read_events
from tests.faults.crash_points import (
    SEGMENT,
    WRITE,
    Fault,
    gateway_fault,
    sealer_fault,
)
from tests.faults.cuts import cut_power
from tests.faults.kills import kill_gateways
from tests.faults.order import order_of
from tests.faults.power import powered
from tests.faults.sender import Books, Load, Sender
from tests.faults.tracer import traced

HOT = hot_name(1)


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    """One place for all of it."""
    with place() as made:
        yield made


@pytest.fixture
def strace() -> None:
    """Skip where nothing can be traced."""
    if reason := tracer.why_not():
        pytest.skip(reason)


@pytest.mark.slow
async def test_twelve_kills_of_a_gateway_and_its_sealer(where: Place) -> None:
    """Everything acknowledged is in the log once, as sent; nothing is there that was not sent."""
    seen = await kill_gateways(where, 1, more=lambda seen: seen.kills < 12)
    assert seen.events > 100
    assert seen.broken, "no request was ever hit by a kill"


@pytest.mark.slow
async def test_six_power_cuts(where: Place) -> None:
    """A disk that lost its cache holds everything acknowledged before."""
    if reason := power.why_not():
        pytest.skip(reason)
    seen = await cut_power(where, 1, more=lambda seen: seen.cuts < 6)
    assert seen.acknowledged > 100


def test_what_was_not_synced_is_gone_after_a_power_cut() -> None:
    """The machinery itself: a cut finds what a kill cannot."""
    if reason := power.why_not():
        pytest.skip(reason)
    with powered() as disk:
        for name in ("kept", "lost"):
            with (disk.disk / name).open("wb") as file:
                file.write(b"x")
        descriptor = os.open(disk.disk / "kept", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        with disk.after(disk.cut()) as found:
            assert (found / "kept").read_bytes() == b"x"
            assert not (found / "lost").exists() or not (found / "lost").read_bytes()


@pytest.mark.usefixtures("strace")
async def test_a_sync_that_only_says_so_is_found_out(where: Place) -> None:
    """The machinery itself: with every sync answered 0 and not done, a cut loses events."""
    if reason := power.why_not():
        pytest.skip(reason)
    with powered() as disk:
        alone, books = where.fresh(inside=disk.disk), Books()
        sender, rng = Sender("s", alone.address, KEY, books), random.Random(1)
        pid, log = alone.start(stopped=True), where.parent / "lying.trace"
        lie = "fdatasync,fsync:retval=0"
        with traced(pid, calls="fdatasync,fsync", inject=lie, log=log):
            await asyncio.wait_for(sender.post(50, rng), 30)
            copy = disk.cut()
        alone.kill()
        sender.close()
        with disk.after(copy) as found, pytest.raises((AssertionError, LogCorrupt)):
            books.check(read_events(found / alone.data.name / "nodes" / NODE))


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(call=call, path=HOT, effect="signal=KILL", nth=nth)
        for call, nth in ((WRITE, 1), (WRITE, 4), ("fdatasync", 2), ("fdatasync", 5))
    ],
    ids=str,
)
async def test_a_kill_at_a_system_call_loses_nothing(where: Place, fault: Fault) -> None:
    """Before the frame, behind it and not yet synced: the repetition is told the truth."""
    outcome = await gateway_fault(where, fault)
    assert (outcome.hit, outcome.restarts) == (True, 1)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("call", "path", "nth"),
    [("rename", f"{SEGMENT}.parquet.partial", 1), ("rename", f"{SEGMENT}.json.partial", 1),
     ("unlink", HOT, 1)],
)  # fmt: skip
async def test_a_kill_while_sealing_keeps_one_of_both(
    where: Place, call: str, path: str, nth: int
) -> None:
    """The hot file or the segment, never both nor neither; what is left over is cleared away."""
    fault = Fault(call=call, path=path, effect="signal=KILL", nth=nth)
    outcome = await sealer_fault(where, fault)
    assert (outcome.hit, outcome.restarts) == (True, 1)


@pytest.mark.usefixtures("strace")
async def test_a_failed_sync_is_never_tried_again(where: Place) -> None:
    """EIO, and the next sync would lie: nothing is acknowledged, and the process ends."""
    outcome = await gateway_fault(
        where, Fault(call="fdatasync", path=HOT, effect="error=EIO", nth=3)
    )
    assert (outcome.hit, outcome.restarts) == (True, 1)
    _, _, after = outcome.trace.partition("(INJECTED)")
    assert "fdatasync" not in after, "the same process synced the same file again"


@pytest.mark.usefixtures("strace")
async def test_no_space_at_a_write_is_a_refusal_and_no_more(where: Place) -> None:
    """503, and the same process goes on by itself when there is space."""
    outcome = await gateway_fault(where, Fault(call=WRITE, path=HOT, effect="error=ENOSPC", nth=3))
    assert (outcome.hit, outcome.restarts) == (True, 0)
    assert outcome.books.refused


@pytest.mark.usefixtures("strace")
async def test_no_answer_leaves_before_its_sync_returned(where: Place) -> None:
    """Read from the system calls themselves: frame, sync, then the 200."""
    alone, books = where.fresh(), Books()
    sender = Sender("s", alone.address, KEY, books)
    trace, calls = alone.data.with_name("order.trace"), f"{WRITE},fdatasync,write,sendto,sendmsg"
    with traced(alone.start(stopped=True), calls=f"{calls},writev", log=trace) as tracing:
        rng = random.Random(1)
        for _ in range(40):
            await asyncio.wait_for(sender.post(3, rng), 30)
        sender.close()
    alone.kill()
    order = order_of(tracing.text().splitlines(), hot=HOT)
    assert order.answers == 40
    assert order.too_early == 0
    assert order.frames >= 40
    assert order.syncs >= 40


@pytest.mark.usefixtures("strace")
async def test_a_slow_disk_is_waited_for_by_all_at_once(where: Place) -> None:
    """Each sync takes 0.3 s: requests share them, so none waits for more than two."""
    alone, books = where.fresh(), Books()
    alone.start()
    first = Sender("first", alone.address, KEY, books)
    await asyncio.wait_for(first.post(1, random.Random(1)), 30)
    first.close()
    alone.kill()
    took_s: list[float] = []
    log = alone.data.with_name("slow.trace")
    delay = "fdatasync:delay_enter=300000"
    with traced(alone.start(stopped=True), calls="fdatasync", inject=delay, log=log):

        async def post(number: int) -> None:
            sender, rng = Sender(f"slow-{number}", alone.address, KEY, books), random.Random(number)
            await sender.post(1, rng)
            for _ in range(4):
                began_s = time.monotonic()
                await sender.post(1, rng)
                took_s.append(time.monotonic() - began_s)
            sender.close()

        await asyncio.wait_for(asyncio.gather(*map(post, range(32))), 60)
    alone.kill()
    books.check(alone.events())
    print(f"slowest of {len(took_s)}: {max(took_s):.2f} s, {books.refused} refused at the start")
    assert sorted(took_s)[int(len(took_s) * 0.9)] < 2 * 0.3 + 0.25  # 50 ms, and a busy machine


@pytest.mark.slow
async def test_a_full_disk_refuses_and_takes_again(where: Place) -> None:
    """On a tmpfs of 8 MiB: 503 until space is free, then on by itself; all acknowledged is kept."""
    disk = where.parent / "small"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {done.stderr.decode().strip()}")
    try:
        alone, books = where.fresh(inside=disk), Books()
        pid = alone.start()
        ballast = disk / "ballast"
        async with Load(alone.address, KEY, random.Random(1), books=books, senders=4) as load:
            await load.acknowledges()
            for _ in range(2):
                fill(ballast)
                refused = books.refused
                async with asyncio.timeout(30):
                    while books.refused < refused + 10:
                        await asyncio.sleep(0.01)
                ballast.unlink()
                await load.acknowledges(within_s=20)
        assert Path(f"/proc/{pid}").exists(), f"it ended: {alone.said()}"
        alone.kill()
        books.check(alone.events())
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(65_536)):
                pass
        except OSError:
            return


async def test_two_gateways_on_one_log_never_mix(where: Place) -> None:
    """The second ends and names the lock; after kill -9 of the first the next has it at once."""
    alone, books = where.fresh(), Books()
    alone.start()
    sender, rng = Sender("s", alone.address, KEY, books), random.Random(1)
    await asyncio.wait_for(sender.post(3, rng), 30)
    second = where.at(alone.data)
    second.start()
    await asyncio.to_thread(second.await_end, within_s=30)
    assert "held by another process" in second.said()
    await asyncio.wait_for(sender.post(3, rng), 30)
    alone.kill()
    began_s = time.monotonic()
    alone.start()
    await asyncio.wait_for(sender.post(3, rng), 30)
    assert time.monotonic() - began_s < 5
    sender.close()
    alone.kill()
    books.check(alone.events())
