"""Records to put into a log, and the usual ways to open one."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from catalog.clock import Clock, FixedClock
from catalog.events import RecordKind
from catalog.ids import NodeId
from ingest.batch import APPENDED, to_records
from ingest.dedupe import identities_of
from ingest.identity import Identities
from ingest.ports import IdentityIndex
from storage.log.files import Files
from storage.log.follower import LogFollower
from storage.log.home import LogLimits
from storage.log.node_log import NodeLog

T0_US = 1_767_225_600_000_000
NODE = NodeId("n1")
HOME = Path("/log")


def events(count: int, *, start: int = 0, data: str = '{"tokens":"1"}', time: object = None):
    """``count`` event records whose ids are numbered from ``start``."""
    rows = [
        {
            "kind": RecordKind.EVENT,
            "source": "gateway",
            "id": f"request-{start + i}",
            "type": "completion",
            "subject": f"subject-{(start + i) % 3}",
            "time": time,
            "time_given": time is not None,
            "data": data,
        }
        for i in range(count)
    ]
    return pl.DataFrame(rows, schema=APPENDED)


def heartbeat() -> pl.DataFrame:
    """One heartbeat record."""
    return pl.DataFrame([{"kind": RecordKind.HEARTBEAT}], schema=APPENDED)


def void(target: int, *, id: str) -> pl.DataFrame:  # noqa: A002
    """The void of the event at ``target``."""
    row = {"kind": RecordKind.VOID, "source": "gateway", "id": id, "target": target, "data": "{}"}
    return pl.DataFrame([row], schema=APPENDED)


def open_log(
    directory: Path = HOME,
    *,
    files: Files | None = None,
    clock: Clock | None = None,
    limits: LogLimits | None = None,
) -> NodeLog:
    """The log of :data:`NODE`."""
    clock = clock or FixedClock(T0_US)
    return NodeLog.open(directory, node=NODE, clock=clock, files=files, limits=limits)


def follow(directory: Path = HOME, *, files: Files | None = None) -> LogFollower:
    """A follower of :data:`NODE`."""
    return LogFollower(directory, NODE, files=files)


def put(log: NodeLog, *groups: pl.DataFrame) -> None:
    """Append and sync each group."""
    for group in groups:
        log.append(to_records(group))
        log.sync()


def everything(reader: NodeLog | LogFollower, *, rows_max: int = 1_000) -> pl.DataFrame:
    """All durable records, read in steps of ``rows_max``."""
    parts = [reader.read_after(0, rows_max=rows_max)]
    while parts[-1].height:
        parts.append(reader.read_after(parts[-1]["seq"][-1], rows_max=rows_max))
    return pl.concat(parts)


def ids(records: pl.DataFrame) -> list[str]:
    """The ids of the events in ``records``."""
    return records.filter(pl.col("kind") == RecordKind.EVENT)["id"].to_list()


def identified(index: IdentityIndex, records: pl.DataFrame) -> Identities:
    """The identities of event records, as this index knows them."""
    return identities_of(to_records(records), key=index.key)
