"""One fault at one system call of a scripted run: every call of it in turn, if there is time.

The script is deterministic, so the Nth call is the same in every run. After the fault the gateway
is started again where it ended, the client repeats what was not answered, and its books must hold.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.log.layout import hot_name
from tests.faults.alone import KEY, Alone, Place
from tests.faults.sender import Books, Sender
from tests.faults.tracer import Trace, traced

BODIES = (1, 7, 60, 1, 2_000, 1, 7, 60, 1)
SECOND_HOT = 1 + sum(BODIES[:5])
WRITE = "pwritev2"  # as os.pwritev comes out on Linux
CALLS = f"{WRITE},fdatasync,fsync,openat,rename,unlink,ftruncate"
ANSWERED_S_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``effect`` at the ``nth`` ``call`` of a thread on ``path``, relative to the log directory.

    ``effect`` is what strace's ``inject=`` takes.
    """

    call: str
    path: str
    effect: str
    nth: int


SEGMENT = f"segment-{1:020d}-{SECOND_HOT - 1:020d}"
GATEWAY_TARGETS = {
    hot_name(1): (WRITE, "fdatasync", "openat"),
    hot_name(SECOND_HOT): ("openat", WRITE, "fdatasync"),
    "": ("fsync", "openat"),
    "durable": ("openat", WRITE, "fdatasync"),
}
"""What a gateway calls on the files of its log: opening it, two hot files, the marks."""
SEALER_TARGETS = {
    f"{SEGMENT}.parquet.partial": ("openat", WRITE, "fdatasync", "rename"),
    f"{SEGMENT}.json.partial": ("openat", WRITE, "fdatasync", "rename"),
    f"{SEGMENT}.parquet": ("openat",),
    hot_name(1): ("openat", "unlink"),
    "": ("fsync",),
}
"""What sealing calls."""


@dataclass
class Outcome:
    """What one fault did."""

    hit: bool
    restarts: int
    books: Books
    trace: str


@dataclass
class Points:
    """What an enumeration saw: faults that hit, restarts, answers lost, by what was called."""

    hit: int = 0
    restarts: int = 0
    answers_lost: int = 0
    by_call: Counter[str] = field(default_factory=Counter)

    def add(self, call: str, outcome: Outcome) -> None:
        """Count one fault, if it hit."""
        if outcome.hit:
            self.hit += 1
            self.restarts += outcome.restarts
            self.answers_lost += outcome.books.answers_lost
            self.by_call[call] += 1


async def enumerate_points(
    where: Place, effect: str, *, nth_max: int, more: Callable[[], bool]
) -> Points:
    """Every target's call 1, 2, … until the run passes without being hit, while ``more``."""
    points, hit = Points(), True
    for run, targets in ((gateway_fault, GATEWAY_TARGETS), (sealer_fault, SEALER_TARGETS)):
        calls = [(path, call) for path, named in targets.items() for call in named]
        for (path, call), nth in itertools.product(calls, range(1, nth_max + 1)):
            if not more():
                return points
            if nth > 1 and not hit:
                continue
            outcome = await run(where, Fault(call=call, path=path, effect=effect, nth=nth))
            hit = outcome.hit
            points.add(call, outcome)
    return points


async def gateway_fault(where: Place, fault: Fault) -> Outcome:
    """Run the script against a gateway with this fault; check the books."""
    alone, books = where.fresh(), Books()
    sender = Sender("s", alone.address, KEY, books)
    restarts = 0
    with _with_fault(alone, alone.start(stopped=True), fault) as trace:
        script = asyncio.create_task(_script(sender))
        gateway = Path(f"/proc/{alone.pid}")
        async with asyncio.timeout(ANSWERED_S_MAX):
            while not script.done():
                await asyncio.sleep(0.01)
                if not gateway.exists():
                    restarts += 1
                    alone.start()
                    gateway = Path(f"/proc/{alone.pid}")
        await script
    sender.close()
    alone.kill()
    books.check(alone.events())
    assert len(books.acknowledged) == sum(BODIES)
    return Outcome(trace.injected() > 0, restarts, books, trace.text())


async def sealer_fault(where: Place, fault: Fault) -> Outcome:
    """Run the script, then seal with this fault; then without; check the log."""
    alone, books = where.fresh(), Books()
    sender = Sender("s", alone.address, KEY, books)
    alone.start()
    await asyncio.wait_for(_script(sender), ANSWERED_S_MAX)
    sender.close()
    alone.kill()
    sealer = alone.start_sealer(stopped=True)
    with _with_fault(alone, sealer, fault) as trace:
        died = await _sealed(alone, sealer)
    alone.kill(sealer)
    if died:
        again = alone.start_sealer()
        assert not await _sealed(alone, again), alone.said()
        alone.kill(again)
    books.check(alone.events())
    return Outcome(trace.injected() > 0, int(died), books, trace.text())


async def _script(sender: Sender) -> None:
    rng = random.Random(1)
    for size in BODIES:
        await sender.post(size, rng)


async def _sealed(alone: Alone, sealer: int) -> bool:
    """Wait until the first hot file is sealed and gone; whether the sealer died before."""
    async with asyncio.timeout(ANSWERED_S_MAX):
        while (alone.directory / hot_name(1)).exists():
            if not Path(f"/proc/{sealer}").exists():
                return True
            await asyncio.sleep(0.005)
    return False


@contextmanager
def _with_fault(alone: Alone, pid: int, fault: Fault) -> Iterator[Trace]:
    inject = f"{fault.call}:{fault.effect}:when={fault.nth}"
    trace = alone.data.with_name(f"{alone.data.name}.trace")
    on = alone.directory / fault.path
    with traced(pid, calls=CALLS, inject=inject, on=on, log=trace) as tracing:
        yield tracing
