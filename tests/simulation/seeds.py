"""Many seeds at once, on all processors, and the paths that they must have taken between them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.world import simulate

CHUNK = 25
CORPUS = Path(__file__).with_name("corpus.txt")

RARE = frozenset(
    {
        "Backpressure",
        "EIO",
        "EIO while reading",
        "EIO while syncing",
        "ENOSPC",
        "LogFull",
        "a meter appeared",
        "a month ended in a log",
        "bit flip found",
        "checkpoint used",
        "clock stepped back",
        "conflict",
        "copy collapsed",
        "directory entry lost",
        "durable without a mark",
        "gateway killed with requests",
        "identity came back after the window",
        "later sector kept, earlier lost",
        "index maintained inside of a group",
        "power cut",
        "refused as a whole",
        "retry after lost answer",
        "run expired",
        "run of identities written",
        "runs merged",
        "sealed",
        "sealing cut short before the unlink",
        "start failed: LogUnavailable",
        "start failed: PowerCut",
        "store: answer late",
        "store: answer lost",
        "store: down",
        "store: late insert arrived",
        "store: partial",
        "store: question failed",
        "store: rejected",
        "torn tail cut",
        "unlink or rename undone",
        "unsynced data dropped",
        "worker killed",
        "write torn at 512 bytes",
    }
)
"""What some hundred seeds together must come across, or they prove little."""


@dataclass(slots=True)
class Result:
    """What some seeds came to. ``failures`` are (seed, what happened)."""

    seeds: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def take(self, other: Result) -> None:
        """Add another's."""
        self.seeds += other.seeds
        self.seen += other.seen
        self.failures += other.failures

    @property
    def never_reached(self) -> list[str]:
        """The rare paths that no seed took."""
        return sorted(RARE - set(self.seen))


def corpus() -> list[int]:
    """The seeds that failed once, each for its own reason."""
    lines = CORPUS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def run_some(seeds: Iterable[int]) -> Result:
    """Run seeds here; a failure does not keep the others from running."""
    result = Result()
    for seed in seeds:
        result.seeds += 1
        try:
            result.seen += simulate(seed)
        except Exception as error:  # noqa: BLE001 - told by seed
            notes = "; ".join(getattr(error, "__notes__", ()))
            result.failures.append((seed, f"{type(error).__name__}: {error} ({notes})"))
    return result


def run_until_failure(seeds: Iterable[int]) -> Result:
    """Run seeds here, up to the first that fails."""
    total = Result()
    for seed in seeds:
        total.take(run_some([seed]))
        if total.failures:
            break
    return total


def run_seeds(
    first: int, seeds: int | None, *, minutes: float | None = None, jobs: int | None = None
) -> Result:
    """Run ``seeds`` seeds from ``first`` on, or as many as the minutes allow."""
    jobs = jobs or os.cpu_count() or 1
    total, began = Result(), time.monotonic()
    every = count(first) if seeds is None else iter(range(first, first + seeds))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: list[Future[Result]] = []
        while True:
            late = minutes is not None and time.monotonic() - began > minutes * 60
            if not late and len(running) < 2 * jobs and (chunk := list(islice(every, CHUNK))):
                running.append(pool.submit(run_some, chunk))
            elif running:
                total.take(running.pop(0).result())
            else:
                break
    total.seconds = time.monotonic() - began
    return total


def report_lines(result: Result) -> Iterator[str]:
    """What a run came to, for a terminal."""
    yield f"{result.seeds} seeds in {result.seconds:.0f} s, {len(result.failures)} failed"
    for name, times in sorted(result.seen.items()):
        yield f"  {times:8} {name}"
    for name in result.never_reached:
        yield f"  {'never':>8} {name}"
    for seed, failure in result.failures:
        yield f"FAILED {seed}: {failure}"
