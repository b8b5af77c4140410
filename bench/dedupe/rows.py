"""What is measured of dedupe: the same identities to both sides, both on what they retain."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from bench.dedupe.identities import Identities, identities
from bench.dedupe.retained import copied, retained, size_of
from bench.dedupe.stores import OurIndex, Redis, Rocks, Sqlite, Store
from bench.gate import expect
from bench.pairing import interleave
from bench.registry import Context, Goal, Measured, Row

TITLE = "Exact dedupe, durable index"
COPIES_SHARE = 0.01


class Rounds:
    """One row's rounds: new identities with a few copies of retained ones, batch by batch."""

    def __init__(self, *, retained_count: int, batch: int, batches: int) -> None:
        self.batch = batch
        self.batches = batches
        self.retained_count = retained_count
        self._next = retained_count
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


def _redis(context: Context) -> Redis:
    count = retained(context, "ours").count
    return Redis(context.scratch / "r", core=context.load_core, retained=count, say=context.say)


def _measure(context: Context, open_other: Callable[[Context], Store], batch: int) -> Measured:
    kept = retained(context, "ours")
    rows = context.size(2_000_000, 500_000)
    rounds = Rounds(retained_count=kept.count, batch=batch, batches=rows // batch)
    os.sched_setaffinity(0, {context.core})
    try:
        with ExitStack() as stack:
            other = stack.enter_context(closing(open_other(context)))
            ours = stack.enter_context(closing(_ours(context)))
            paired = interleave(
                lambda _: rounds.measure(ours),
                lambda _: rounds.measure(other),
                rounds=context.rounds,
                prepare=rounds.prepare,
            )
    finally:
        os.sched_setaffinity(0, {context.core, context.load_core})
    return Measured(
        unit="identities/s",
        paired=paired,
        method={
            "batch": f"{batch:,} identities, {COPIES_SHARE:.0%} of them copies of retained ones",
            "retained": f"{kept.count:,} identities",
            "sent": f"{rows:,} identities a side and round",
            "fsync": "none a batch on any side; ours includes writing and merging its runs",
            "pinning": f"core {context.core}; Valkey has core {context.load_core} to itself",
        },
    )


def _against(name: str, open_other: Callable[[Context], Store], against: str, goal: Goal) -> Row:
    return Row(
        key=f"dedupe/{name}",
        title=f"exact dedupe, 50 M retained, {name}",
        against=against,
        goal=goal,
        measure=lambda context: _measure(context, open_other, 1_000),
    )


def _bytes(context: Context) -> Measured:
    kept = retained(context, "ours")
    value = size_of(kept.path) / kept.count
    method = {"retained": f"{kept.count:,} identities"}
    facts = {"built": f"in {kept.built_s} s"}
    return Measured(unit="bytes/identity", value=value, method=method, facts=facts)


ROWS = [
    _against("redis", _redis, "Redis SET NX, pipelined", Goal(reach=5, stretch=10)),
    _against("sqlite", _sqlite, "SQLite INSERT OR IGNORE", Goal(reach=8, stretch=20)),
    _against("rocksdb", _rocksdb, "RocksDB, MultiGet and WriteBatch", Goal(reach=1, stretch=2)),
    Row(
        key="dedupe/bytes",
        title="disk, a retained identity",
        against="32 bytes",
        goal=Goal(reach=32, at_most=True),
        measure=_bytes,
    ),
]
