"""A node's log with realistic events in it, as the gateway writes it, without the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from bench.load.events import make_events
from catalog.clock import FixedClock
from catalog.events import RecordKind
from catalog.ids import NodeId
from ingest.batch import APPENDED, to_records
from ingest.dedupe import identities_of
from ingest.ports import Appended
from storage.log.follower import LogFollower
from storage.log.home import LogLimits
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog

NODE = NodeId("n1")
CHUNK_ROWS = 250_000
FRAME_ROWS = 8_000
"""Events a frame: what a group commit of a loaded gateway gathers."""


def frames_of(events: pl.DataFrame) -> Iterator[pa.RecordBatch]:
    """Events as the log takes them, a frame at a time."""
    records = events.select(
        kind=pl.lit(RecordKind.EVENT.value),
        source="source",
        id="id",
        type="type",
        subject="subject",
        time="time",
        time_given=pl.lit(value=True),
        data="data",
        target=pl.lit(None, pl.Int64),
    ).cast(APPENDED)
    return map(to_records, records.iter_slices(FRAME_ROWS))


def chunks(events: int) -> Iterator[pl.DataFrame]:
    """So many events, all different, a chunk at a time."""
    for at in range(0, events, CHUNK_ROWS):
        yield make_events(min(CHUNK_ROWS, events - at), seed=50_000 + at)


def fill_log(
    directory: Path, *, events: int, hot_bytes_max: int = 128 << 20, indexed: bool = False
) -> None:
    """Append ``events`` events to a fresh log, as ``kill -9`` would leave it.

    With ``indexed`` beside its identity index, whose last tables are lost in the kill.
    """
    clock = FixedClock(time.time_ns() // 1_000)
    limits = LogLimits(hot_bytes_max=hot_bytes_max)
    log = NodeLog.open(directory, node=NODE, clock=clock, limits=limits)
    index = DiskIdentityIndex.open(log.index_directory, log) if indexed else None
    for chunk in chunks(events):
        for frame in frames_of(chunk):
            appended = log.append(frame)
            log.sync()
            if index is not None:
                _remember(index, frame, appended)
            log.roll_if_due()
    if index is not None:
        index.close()
    log.close()


def _remember(index: DiskIdentityIndex, frame: pa.RecordBatch, appended: Appended) -> None:
    ids = identities_of(frame, key=index.key)
    index.probe(ids)
    index.insert(ids, first_seq=appended.first_seq, received_at=appended.received_at)


def seal_all(directory: Path) -> None:
    """Close the last hot file and seal every one, as gateway and worker do in time."""
    log = NodeLog.open(directory, node=NODE, clock=FixedClock(time.time_ns() // 1_000))
    log.roll()
    log.close()
    LogFollower(directory, NODE).seal_closed()
