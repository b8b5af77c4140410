"""What a log really holds, read from its files: the last word on what was kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from bench.gate import expect
from catalog.events import RecordKind
from catalog.ids import NodeId
from storage.log.follower import LogFollower

READ_ROWS = 200_000


def expect_logged(directory: Path, node: str, *, events: int) -> None:
    """Fail the row unless the log holds so many events, no identity twice.

    Raises:
        BenchFailed: it does not.
    """
    parts, after = [], 0
    follower = LogFollower(directory, NodeId(node))
    while (records := follower.read_after(after, rows_max=READ_ROWS)).height:
        after = records["seq"][-1]
        kept = records.filter(pl.col("kind") == RecordKind.EVENT)
        parts.append(kept.select(identity=pl.struct("source", "id").hash(7)))
    hashes = pl.concat(parts)["identity"] if parts else pl.Series(dtype=pl.UInt64)
    expect("events in the log", seen=len(hashes), wanted=events)
    expect("identities in the log", seen=hashes.n_unique(), wanted=events)
