"""Cut the power of the disk a gateway writes to, at random moments, and look at what is left."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.alone import KEY, NODE, Place, is_torn, read_events
from tests.faults.kills import SENDERS
from tests.faults.power import ORDERED, WRITEBACK, Powered, powered
from tests.faults.sender import Books, Load, Sender

ROUND_CUTS = 20
STARTED_EVERY = 10


@dataclass
class Cuts:
    """What a campaign saw."""

    cuts: int = 0
    rounds: int = 0
    acknowledged: int = 0
    """Events that were acknowledged before a cut and had to be there after it, over all cuts."""
    beyond: int = 0
    """Events that were there although not acknowledged by then."""
    torn: int = 0
    """Cuts after which the log had an incomplete tail, or a file without a whole header."""
    started: int = 0
    """Copies on which a gateway was started and given everything once more."""


async def cut_power(where: Place, seed: int, *, more: Callable[[Cuts], bool]) -> Cuts:
    """Rounds of cuts, each of a fresh directory under load, while ``more``."""
    rng = random.Random(seed)
    seen = Cuts()
    while more(seen):
        with powered((ORDERED, WRITEBACK)[seen.rounds % 2]) as disk:
            await _round(where, disk, rng, seen, more)
    return seen


async def _round(
    where: Place,
    disk: Powered,
    rng: random.Random,
    seen: Cuts,
    more: Callable[[Cuts], bool],
) -> None:
    alone, books = where.fresh(inside=disk.disk), Books()
    alone.start()
    sealer = alone.start_sealer()
    async with Load(alone.address, KEY, rng, books=books, senders=SENDERS) as load:
        await load.acknowledges()
        for _ in range(ROUND_CUTS):
            await asyncio.sleep(rng.uniform(0, 0.2))
            promised = dict(books.acknowledged)
            copy = await asyncio.to_thread(disk.cut)
            seen.cuts += 1
            seen.acknowledged += len(promised)
            with disk.after(copy) as found:
                data = found / alone.data.name
                seen.torn += is_torn(data / "nodes" / NODE)
                if seen.cuts % STARTED_EVERY == 0:
                    await _start(where, data, promised, seen)
                _look(data, books, promised, seen)
            if not more(seen):
                break
    alone.kill()
    alone.kill(sealer)
    books.check(alone.events())
    seen.rounds += 1


def _look(data: Path, books: Books, promised: dict[str, str], seen: Cuts) -> None:
    """Recover the log and check it and the SQL file."""
    events = read_events(data / "nodes" / NODE)
    books.check(events, acknowledged=promised)
    seen.beyond += events.height - len(promised)
    with sqlite3.connect(data / "catalog.sqlite") as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def _start(where: Place, data: Path, promised: dict[str, str], seen: Cuts) -> None:
    """A gateway on the copy knows everything that was acknowledged."""
    again = where.at(data)
    again.start()
    sender = Sender("again", again.address, KEY, Books())
    told = await asyncio.wait_for(sender.repeat(promised), 60)
    again.kill()
    assert told == (0, len(promised)), f"{told} of {len(promised)}"
    seen.started += 1
