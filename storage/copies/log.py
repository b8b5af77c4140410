"""The compensations that readers write: a log like a node's, owned by the worker.

It says of every event that does not count why, once: it was voided, or it is a copy of one that
counts. Each frame ends with a record of how far the nodes' logs had been read, so the position is
part of what it describes. All other readers follow it as they follow a node.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from catalog.clock import Clock, Micros, to_datetime
from catalog.errors import DomainError
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.batch import APPENDED, to_records
from ingest.copies import Identity, Place
from storage.log.home import LogLimits
from storage.log.node_log import NodeLog

READ_ROWS = 50_000


class ReadLog(Protocol):
    """A log that is read from one end to the other."""

    def read_after(self, seq: Seq, *, rows_max: int) -> pl.DataFrame:
        """RECORDS behind ``seq``; none only when there are none."""
        ...


class CompensationsAhead(DomainError):
    """The compensations were made from more than the logs hold: a log was put back.

    ``tallyman rebuild copies`` makes them again.
    """

    code = "compensations_ahead"


class Out(NamedTuple):
    """An event that does not count from ``since`` on, and why.

    ``counted`` is the event that counts instead of a copy; ``conflict`` says that the two differ.
    """

    cause: RecordKind
    identity: Identity
    place: Place
    since: int
    counted: Place | None = None
    conflict: bool = False


@dataclass(slots=True)
class Known:
    """What the log says, in memory: what is out, and how far the nodes' logs were read.

    ``copies`` maps a copy to the event that counts for it. ``through``: every record received up
    to there was read. A hundred bytes or two for every event that does not count.
    """

    copies: dict[Place, Place] = field(default_factory=dict)
    voids: set[Place] = field(default_factory=set)
    positions: dict[NodeId, Seq] = field(default_factory=dict)
    through: Micros = Micros(0)

    def take(self, outs: Sequence[Out]) -> None:
        """Remember what was written."""
        for out in outs:
            if out.counted is None:
                self.voids.add(out.place)
            else:
                self.copies[out.place] = out.counted


class CompensationLog:
    """The writer. One process has it open, one thread uses it."""

    def __init__(self, log: NodeLog) -> None:
        self._log = log
        self.known = read_known(log)

    @classmethod
    def open(
        cls, directory: Path, node: NodeId, *, clock: Clock, limits: LogLimits | None = None
    ) -> CompensationLog:
        """Recover the log in ``directory`` and read it.

        Raises:
            LogLocked, LogCorrupt, LogTooNew, LogUnavailable: see :class:`NodeLog`.
        """
        return cls(NodeLog.open(directory, node=node, clock=clock, limits=limits))

    @property
    def last_seq(self) -> Seq:
        """The last record written."""
        return Seq(self._log.next_seq - 1)

    def write(
        self, outs: Sequence[Out], *, positions: Mapping[NodeId, Seq], through: Micros
    ) -> None:
        """Append what was found, and that the logs were read so far; durable on return.

        Raises:
            LogUnavailable: it may be there or not. Open the log again to find out.
        """
        mark = {"through": through, "positions": positions}
        rows = [_row(out) for out in outs]
        rows.append(
            {
                "kind": RecordKind.HEARTBEAT.value,
                "time": to_datetime(through),
                "data": json.dumps(mark, separators=(",", ":")),
            }
        )
        self._log.append(to_records(pl.DataFrame(rows, schema=APPENDED)))
        self._log.sync()
        self.known.take(outs)
        self.known.positions, self.known.through = dict(positions), through
        self._log.roll_if_due()

    def close(self) -> None:
        """Release the log."""
        self._log.close()


def compensation_of(row: Mapping[str, object]) -> Out | None:
    """What one record (as a mapping of RECORDS) says; None where it is no compensation."""
    kind, target = RecordKind(_int(row["kind"])), row["target"]
    if kind not in {RecordKind.VOID, RecordKind.COLLAPSED} or target is None:
        return None
    told = json.loads(str(row["data"]))
    counted = told.get("counted")
    return Out(
        cause=kind,
        identity=(str(row["source"]), str(row["id"])),
        place=Place(str(row["type"]), _int(target)),
        since=_int(row["since"]),
        counted=None if counted is None else Place(*counted),
        conflict=bool(told.get("conflict", False)),
    )


def outs_in(records: pl.DataFrame) -> list[Out]:
    """The compensations among RECORDS of the log, in order."""
    return [out for _, out in numbered_outs(records)]


def numbered_outs(records: pl.DataFrame) -> Iterator[tuple[Seq, Out]]:
    """The same with the record that says so."""
    kinds = [RecordKind.VOID.value, RecordKind.COLLAPSED.value]
    rows = records.filter(pl.col("kind").is_in(kinds)).with_columns(
        since=pl.col("time").dt.epoch("us")
    )
    for row in rows.iter_rows(named=True):
        out = compensation_of(row)
        if out is not None:
            yield Seq(row["seq"]), out


def _row(out: Out) -> dict[str, object]:
    told: dict[str, object] = {} if out.counted is None else {"counted": list(out.counted)}
    if out.conflict:
        told["conflict"] = True
    return {
        "kind": out.cause.value,
        "source": out.identity[0],
        "id": out.identity[1],
        "type": out.place.node,
        "target": out.place.seq,
        "time": to_datetime(out.since),
        "data": json.dumps(told, separators=(",", ":")),
    }


def read_known(log: ReadLog) -> Known:
    """What a log of compensations says, all of it."""
    known, seq = Known(), Seq(0)
    while (records := log.read_after(seq, rows_max=READ_ROWS)).height:
        _read_into(known, records)
        seq = Seq(int(records["seq"][-1]))
    return known


def _read_into(known: Known, records: pl.DataFrame) -> None:
    known.take(outs_in(records))
    marks = records.filter(
        pl.col("kind") == RecordKind.HEARTBEAT.value, pl.col("data").is_not_null()
    )
    if marks.height:
        mark = json.loads(marks["data"][-1])
        known.through = Micros(mark["through"])
        known.positions = {NodeId(node): Seq(seq) for node, seq in mark["positions"].items()}


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
