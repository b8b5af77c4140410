"""Kill a node's gateway, and what seals beside it, at random moments under load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.log.files import OsFiles
from storage.log.layout import read_layout
from tests.faults.alone import KEY, Alone, Place, is_torn
from tests.faults.sender import Books, Load

ROUND_KILLS = 25
SENDERS = 6


@dataclass
class Kills:
    """What a campaign saw."""

    kills: int = 0
    sealer_kills: int = 0
    while_opening: int = 0
    """Kills of a gateway that had not acknowledged anything: it was still opening its log."""
    rounds: int = 0
    events: int = 0
    requests: int = 0
    torn: int = 0
    """Kills that left an incomplete frame, or a file without a whole header."""
    broken: int = 0
    answers_lost: int = 0
    segments: int = 0
    down_s: list[float] = field(default_factory=list)
    """From the start of a gateway to the next acknowledgement."""

    def add(self, books: Books) -> None:
        """Count what a round's books say."""
        self.rounds += 1
        self.events += len(books.acknowledged)
        self.requests += books.requests
        self.broken += books.broken
        self.answers_lost += books.answers_lost


async def kill_gateways(where: Place, seed: int, *, more: Callable[[Kills], bool]) -> Kills:
    """Rounds of kills, each on a fresh directory, while ``more``; the books after each."""
    rng = random.Random(seed)
    seen = Kills()
    while more(seen):
        await _round(where, rng, seen, more)
    return seen


async def _round(
    where: Place, rng: random.Random, seen: Kills, more: Callable[[Kills], bool]
) -> None:
    alone, books = where.fresh(), Books()
    alone.start()
    sealer = alone.start_sealer()
    async with Load(alone.address, KEY, rng, books=books, senders=SENDERS) as load:
        await load.acknowledges()
        for number in range(ROUND_KILLS):
            await asyncio.sleep(rng.uniform(0, 0.15))
            if number % 4 == 1:
                alone.kill(sealer)
                sealer = alone.start_sealer()
                seen.sealer_kills += 1
            await _kill(alone, load, seen, again=rng.random() < 0.3, rng=rng)
            if not more(seen):
                break
    alone.kill()
    alone.kill(sealer)
    books.check(alone.events())
    seen.segments += len(read_layout(alone.directory, files=OsFiles()).segments)
    seen.add(books)


async def _kill(alone: Alone, load: Load, seen: Kills, *, again: bool, rng: random.Random) -> None:
    """Kill the gateway, and with ``again`` the next one while it opens its log."""
    _end(alone, seen)
    began_s = asyncio.get_running_loop().time()
    alone.start()
    if again:
        before = len(load.books.acknowledged)
        await asyncio.sleep(rng.uniform(0, 0.3))
        _end(alone, seen)
        seen.while_opening += len(load.books.acknowledged) == before
        alone.start()
    await load.acknowledges()
    seen.down_s.append(asyncio.get_running_loop().time() - began_s)


def _end(alone: Alone, seen: Kills) -> None:
    alone.kill()
    seen.kills += 1
    seen.torn += is_torn(alone.directory)
