"""A node's log in memory, with the face a follower shows to readers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from catalog.clock import Micros, to_micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec

T0 = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDurable:
    """How far a log in memory is."""

    seq: Seq
    received_at: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySegment:
    """A stretch that a test declared sealed."""

    first_seq: Seq
    last_seq: Seq
    last_received_at: Micros
    path: Path = Path("memory")


class MemoryTail:
    """Records appended by a test; ``seal`` declares everything so far a segment."""

    def __init__(self, node: str = "n1", *, start: datetime = T0) -> None:
        self.node = NodeId(node)
        self.records = RECORDS.to_frame()
        self.sealed: list[MemorySegment] = []
        self.reads = 0
        self.broken: Exception | None = None
        self._instant = start

    def append(self, *rows: dict, received_at: datetime | None = None) -> None:
        """Append records, one a second (or at ``received_at``, one a microsecond)."""
        for number, row in enumerate(rows):
            self._instant = (
                self._instant + timedelta(seconds=1)
                if received_at is None
                else received_at + timedelta(microseconds=number)
            )
            full = dict.fromkeys(RECORDS) | {
                "seq": self.records.height + 1,
                "received_at": self._instant,
                "time": self._instant,
                "time_given": True,
            }
            added = pl.DataFrame([full | row], schema=RECORDS)
            self.records = pl.concat([self.records, added])

    def seal(self) -> None:
        """Declare everything since the last segment one more."""
        first = self.sealed[-1].last_seq + 1 if self.sealed else 1
        durable = self.durable()
        self.sealed.append(
            MemorySegment(
                first_seq=Seq(first), last_seq=durable.seq, last_received_at=durable.received_at
            )
        )

    def durable(self) -> MemoryDurable:
        """The last record."""
        if self.records.is_empty():
            return MemoryDurable(seq=Seq(0), received_at=Micros(0))
        last = self.records.row(-1, named=True)
        return MemoryDurable(seq=Seq(last["seq"]), received_at=to_micros(last["received_at"]))

    def read_after(self, seq: Seq, *, rows_max: int) -> pl.DataFrame:
        """What a follower would read, or the test's failure."""
        if self.broken is not None:
            raise self.broken
        self.reads += 1
        return self.records.filter(pl.col("seq") > seq).head(rows_max)

    def segments(self) -> list[MemorySegment]:
        """The declared segments."""
        return list(self.sealed)

    def seal_closed(self) -> list[MemorySegment]:
        """Nothing: the test seals."""
        return []


IDS = itertools.count(1)


def event(
    data: str = '{"x":"1"}', *, kind: str = "call", subject: str = "acme", **given: object
) -> dict:
    """One event record with an id of its own."""
    row = {"kind": RecordKind.EVENT, "source": "test", "id": f"e{next(IDS)}", "type": kind}
    return row | {"subject": subject, "data": data} | given


def void(target: int, **given: object) -> dict:
    """The void of an earlier record."""
    row = {"kind": RecordKind.VOID, "source": "test", "id": "-", "target": target}
    return row | {"data": '{"reason":"test"}'} | given


def heartbeat() -> dict:
    """A heartbeat record."""
    return {"kind": RecordKind.HEARTBEAT, "time": None, "time_given": None}


def spec(path: str | None = "data.x", *, kind: str = "call") -> FactSpec:
    """What a sum meter of ``path`` reads (a count meter where it is null)."""
    return FactSpec(event_types=(kind,), value=path, as_text=False, dimensions=(), filter=())


def specs(*given: FactSpec) -> dict[SpecId, FactSpec]:
    """The specs by id."""
    return {one.id: one for one in given}
