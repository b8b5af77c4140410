"""What is measured of dedupe: the same identities to both sides, both on what they retain."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

import numpy as np

from bench.dedupe.identities import Identities, identities
from bench.dedupe.retained import copied, retained, size_of
from bench.dedupe.stores import OurIndex, Redis, Rocks, Sqlite, Store
from bench.gate import expect
from bench.pairing import Paired, interleave
from bench.processes import on_core
from bench.registry import Context, Goal, Measured, Row

TITLE = "Exact dedupe, durable index"
COPIES_SHARE = 0.01
BATCH, BATCH_SMALL = 10_000, 1_000


class Rounds:
    """One row's rounds: new identities with a few copies of retained ones, batch by batch."""

    def __init__(self, retained_count: int, *, batch: int, rows: int, first: int) -> None:
        self.batch = batch
        self.batches = rows // batch
        self.retained_count = retained_count
        self._next = first
        self._parts: list[Identities] = []
        self._copies = 0

    def prepare(self, number: int) -> None:
        """Make the identities of one round."""
        rng = np.random.default_rng(number + 100)
        self._parts, self._copies = [], 0
        for _ in range(self.batches):
            numbers = np.arange(self._next, self._next + self.batch, dtype=np.uint64)
            self._next += self.batch
            copies = max(1, int(self.batch * COPIES_SHARE))
            where = rng.choice(self.batch, copies, replace=False)
            numbers[where] = rng.choice(self.retained_count, copies, replace=False)
            self._parts.append(identities(numbers))
            self._copies += copies

    def measure(self, store: Store) -> float:
        """Identities a second; the copies among them must have been found, all and only they.

        Raises:
            BenchFailed: they were not.
        """
        ready: list[Any] = [store.ready(part) for part in self._parts]
        began_s = time.perf_counter()
        known = sum(store.add(part) for part in ready)
        store.settle()
        elapsed_s = time.perf_counter() - began_s
        expect(f"copies found by {type(store).__name__}", seen=known, wanted=self._copies)
        return self.batches * self.batch / elapsed_s


def _ours(context: Context) -> OurIndex:
    kept = retained(context, "ours")
    path = copied(kept.path, context.scratch / "index")
    return OurIndex(path, count=kept.count, last_received_at=kept.last_received_at)


def _sqlite(context: Context) -> Sqlite:
    return Sqlite(copied(retained(context, "sqlite").path, context.scratch / "kept.sqlite"))


def _rocksdb(context: Context) -> Rocks:
    return Rocks(copied(retained(context, "rocksdb").path, context.scratch / "rocksdb"))


def _redis(pipelined: int) -> Callable[[Context], Redis]:
    def open_redis(context: Context) -> Redis:
        return Redis(
            context.scratch / "r",
            core=context.load_core,
            retained=retained(context, "ours").count,
            pipelined=pipelined,
            say=context.say,
        )

    return open_redis


def _pair(context: Context, ours: Store, other: Store, rounds: Rounds) -> Paired:
    return interleave(
        lambda _: rounds.measure(ours),
        lambda _: rounds.measure(other),
        rounds=context.rounds,
        prepare=rounds.prepare,
    )


def _measure(context: Context, open_other: Callable[[Context], Store]) -> Measured:
    kept = retained(context, "ours")
    rows = context.size(1_000_000, 300_000)
    with on_core(context.core), ExitStack() as stack:
        other = stack.enter_context(closing(open_other(context)))
        ours = stack.enter_context(closing(_ours(context)))
        small, large = (
            _pair(context, ours, other, Rounds(kept.count, batch=batch, rows=rows, first=first))
            for batch, first in ((BATCH_SMALL, kept.count), (BATCH, 2 * kept.count))
        )
    mine, theirs = median(small.ours), median(small.theirs)
    return Measured(
        unit="identities/s",
        paired=large,
        method={
            "batch": f"{BATCH:,} identities, {COPIES_SHARE:.0%} of them copies of retained ones",
            "retained": f"{kept.count:,} identities",
            "sent": f"{rows:,} identities a side and round",
            "fsync": "none a batch on any side; ours includes writing and merging its runs",
            "pinning": f"core {context.core}; Valkey has core {context.load_core} to itself",
        },
        facts={
            f"{BATCH_SMALL:,} a batch": f"{small.ratio:.3g}× ({mine:,.0f} against {theirs:,.0f})",
        },
    )


def _against(
    name: str, open_other: Callable[[Context], Store], against: str, goal: Goal | None
) -> Row:
    return Row(
        key=f"dedupe/{name}",
        title=f"exact dedupe, 50 M retained, beside {name}",
        against=against,
        goal=goal,
        measure=lambda context: _measure(context, open_other),
    )


def _bytes(context: Context) -> Measured:
    kept = retained(context, "ours")
    value = size_of(kept.path) / kept.count
    method = {"retained": f"{kept.count:,} identities"}
    facts = {"built": f"in {kept.built_s} s"}
    return Measured(unit="bytes/identity", value=value, method=method, facts=facts)


ROWS = [
    _against("redis", _redis(16), "Redis SET NX, pipelines of 16", goal=Goal(reach=5, stretch=10)),
    _against("redis-batch", _redis(BATCH), "Redis SET NX, a pipeline a batch", goal=None),
    _against("sqlite", _sqlite, "SQLite INSERT OR IGNORE", goal=Goal(reach=8, stretch=20)),
    _against(
        "rocksdb", _rocksdb, "RocksDB, MultiGet and WriteBatch", goal=Goal(reach=1, stretch=2)
    ),
    Row(
        key="dedupe/bytes",
        title="disk, a retained identity",
        against="32 bytes",
        goal=Goal(reach=32, at_most=True),
        measure=_bytes,
    ),
]
