"""What is measured of the log by itself."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import google_crc32c
import polars as pl

from bench.gate import expect
from bench.log.filled import CHUNK_ROWS, NODE, chunks, fill_log
from bench.pairing import interleave
from bench.processes import on_core
from bench.registry import Context, Goal, Measured, Row
from catalog.clock import FixedClock
from catalog.events import RecordKind
from ingest.batch import APPENDED, to_records
from ingest.dedupe import identities_of
from storage.log.follower import LogFollower
from storage.log.frames import FORMAT_VERSION
from storage.log.identity_index import DiskIdentityIndex
from storage.log.layout import INDEX_NAME
from storage.log.node_log import NodeLog

TITLE = "Log"
SCAN_BYTES = 4 << 20
EVENTS_2GB, EVENTS_QUICK = 10_000_000, 1_000_000
PARQUET_ROW_GROUP = 1 << 16


def _kept_log(context: Context, *, indexed: bool = False) -> tuple[Path, int]:
    """A log of hot files only, none sealed, in the cache; how many events it has.

    With ``indexed`` it is one hot file, with the index as it was when the gateway was killed.
    """
    events = context.size(EVENTS_2GB, EVENTS_QUICK)
    home = context.cache / f"hot-{events}-v{FORMAT_VERSION}{'-indexed' if indexed else ''}"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        context.say(f"  writing a log of {events:,} events")
        hot_bytes_max = 16 << 30 if indexed else 128 << 20
        fill_log(home / "log", events=events, hot_bytes_max=hot_bytes_max, indexed=indexed)
        (home / "done").touch()
    return home / "log", events


def _copied(source: Path, target: Path) -> Path:
    """The log to be opened for writing: closed hot files are links, what may change is a copy."""
    target.mkdir()
    hots = sorted(source.glob("hot-*"))
    for path in source.iterdir():
        if path in hots[:-1] and path.stat().st_dev == target.stat().st_dev:
            os.link(path, target / path.name)
        elif path.is_file():
            shutil.copyfile(path, target / path.name)
            with (target / path.name).open("rb") as copied:
                os.fdatasync(copied.fileno())  # as it was acknowledged
    if (source / INDEX_NAME).exists():
        shutil.copytree(source / INDEX_NAME, target / INDEX_NAME)
    return target


def _hot_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("hot-*"))


def _recover(directory: Path, *, events: int) -> float:
    """Bytes a second from opening the log to an index that knows all of it.

    Raises:
        BenchFailed: something is missing.
    """
    size = _hot_bytes(directory)
    began_s = time.perf_counter()
    log = NodeLog.open(directory, node=NODE, clock=FixedClock(time.time_ns() // 1_000))
    index = DiskIdentityIndex.open(log.index_directory, log)
    elapsed_s = time.perf_counter() - began_s
    expect("records recovered", seen=log.next_seq, wanted=events + 1)
    last = log.read_after(events - CHUNK_ROWS // 10, rows_max=CHUNK_ROWS)
    kept = last.filter(pl.col("kind") == RecordKind.EVENT).select(list(APPENDED))
    ids = identities_of(to_records(kept), key=index.key)
    expect("identities known", seen=int((index.probe(ids).seq > 0).sum()), wanted=kept.height)
    index.close()
    log.close()
    return size / elapsed_s


def _scan(directory: Path) -> float:
    """Bytes a second of reading the hot files and their CRC32C, the checksum of our frames."""
    size = 0
    began_s = time.perf_counter()
    for path in sorted(directory.glob("hot-*")):
        checksum = 0
        with path.open("rb", buffering=0) as file:
            while data := file.read(SCAN_BYTES):
                checksum = google_crc32c.extend(checksum, data)
                size += len(data)
    elapsed_s = time.perf_counter() - began_s
    expect("bytes scanned", seen=size, wanted=_hot_bytes(directory))
    return size / elapsed_s


def measure_recovery(context: Context, *, indexed: bool) -> Measured:
    """Recovery beside a scan of the same bytes.

    With ``indexed`` from the checkpoint a killed gateway leaves; else without any: every identity
    is read from the log again.
    """
    kept, events = _kept_log(context, indexed=indexed)
    current = context.scratch / "log"

    def prepare(number: int) -> None:
        del number
        shutil.rmtree(current, ignore_errors=True)
        _copied(kept, current)

    with on_core(context.core):
        paired = interleave(
            lambda _: _recover(current, events=events) / 1e9,
            lambda _: _scan(kept) / 1e9,
            rounds=min(context.rounds, 5),
            prepare=prepare,
        )
    size = _hot_bytes(kept)
    return Measured(
        unit="GB/s",
        paired=paired,
        method={
            "log": f"{size / 1e9:.2f} GB in {len(list(kept.glob('hot-*')))} hot files, "
            f"{events:,} events",
            "index": "as kill -9 leaves it" if indexed else "none: made again from the log",
            "cache": "both read from the page cache",
            "pinning": f"one process on core {context.core}",
        },
        facts={"recovered in": f"{size / 1e9 / paired.ours[-1]:.1f} s"},
    )


def measure_bytes(context: Context) -> Measured:
    """The bytes of a log, all but its last hot file sealed, over zstd Parquet of the same rows."""
    kept, events = _kept_log(context)
    directory = _copied(kept, context.scratch / "log")
    follower = LogFollower(directory, NODE)
    follower.seal_closed()
    sealed = sum(path.stat().st_size for path in directory.glob("segment-*"))
    hot = _hot_bytes(directory)
    parquet, rows, after = 0, 0, 0
    while (part := follower.read_after(after, rows_max=CHUNK_ROWS)).height:
        after, rows = part["seq"][-1], rows + part.height
        out = io.BytesIO()
        part.write_parquet(out, compression="zstd", row_group_size=PARQUET_ROW_GROUP)
        parquet += out.tell()
    expect("events", seen=rows, wanted=events)
    return Measured(
        unit="× the bytes",
        value=(sealed + hot) / parquet,
        method={"log": f"{events:,} events; the last hot file is not sealed yet"},
        facts={
            "sealed": f"{sealed / 1e6:,.0f} MB, {sealed / (events or 1):.1f} bytes an event in all",
            "hot": f"{hot / 1e6:,.0f} MB",
            "zstd Parquet": f"{parquet / 1e6:,.0f} MB",
            "as JSON": f"{_json_bytes():.0f} bytes an event",
        },
    )


def _json_bytes() -> float:
    from bench.load.events import json_bodies  # noqa: PLC0415  (only for this line)

    (body,) = json_bodies(next(chunks(1_000)), batch=1_000)
    return len(body) / 1_000


ROWS = [
    Row(
        key="log/recovery",
        title="recovery after kill -9: a hot segment of 2 GB, the index from its checkpoint",
        against="a checksum scan of the same bytes",
        goal=Goal(reach=0.5, stretch=0.7),
        measure=lambda context: measure_recovery(context, indexed=True),
    ),
    Row(
        key="log/recovery-all",
        title="recovery where the index is lost: 2 GB of log behind its last checkpoint",
        against="a checksum scan of the same bytes",
        goal=Goal(reach=0.5, stretch=0.7),
        measure=lambda context: measure_recovery(context, indexed=False),
    ),
    Row(
        key="log/bytes",
        title="bytes of hot and sealed segments",
        against="zstd Parquet of the same rows",
        goal=Goal(reach=1.2, at_most=True),
        measure=measure_bytes,
    ),
]
