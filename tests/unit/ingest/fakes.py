"""A log and an index in a few lines of memory, and bodies to send them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from catalog.clock import FixedClock, Micros, to_micros
from catalog.events import INSTANT, RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from ingest.batch import Body, Checked, IngestLimits
from ingest.decode import decode
from ingest.ports import Appended, LogUnavailable, Probed
from ingest.validate import Standard, validate
from ingest.values import IngestRules

NOW = to_micros(datetime(2026, 11, 3, 10, tzinfo=UTC))
TIME = "2026-11-03T09:15:00.120Z"


class MemoryLog:
    """RecordLog and RecordReader. ``frames`` counts appends; ``fail`` breaks the next sync."""

    def __init__(self, now_us: int = NOW) -> None:
        self.node = NodeId("n1")
        self.clock = FixedClock(now_us)
        self.records = RECORDS.to_frame()
        self.durable = 0
        self.frames = 0
        self.fail = False
        self._last = 0

    def append(self, records: pl.DataFrame) -> Appended:
        """Number and keep ``records``."""
        first, at = self.records.height + 1, max(self._last + 1, self.clock.now_us())
        numbered = records.with_columns(
            seq=pl.int_range(first, first + pl.len(), dtype=pl.Int64),
            received_at=pl.int_range(at, at + pl.len(), dtype=pl.Int64).cast(INSTANT),
        )
        filled = pl.when(kind=RecordKind.EVENT.value).then(pl.coalesce("time", "received_at"))
        frame = numbered.with_columns(time=filled.otherwise("time")).select(RECORDS.names())
        assert frame.schema == RECORDS
        self.records = self.records.vstack(frame)
        self._last = at + records.height - 1
        self.frames += 1
        return Appended(first_seq=Seq(first), received_at=Micros(at), count=records.height)

    def sync(self) -> None:
        """Make durable."""
        if self.fail:
            raise LogUnavailable("the disk failed")
        self.durable = self.records.height

    def read(self, seqs: Sequence[int]) -> pl.DataFrame:
        """Durable records by seq."""
        return self.records.head(self.durable).filter(pl.col("seq").is_in(list(seqs)))


class MemoryIndex:
    """IdentityIndex as a dictionary."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[int, int]] = {}
        self.voids: set[int] = set()

    def probe(self, identities: pl.DataFrame) -> Probed:
        """Look up."""
        found = [
            (*self.known.get((source, identity), (0, 0)), content)
            for source, identity, content in identities.iter_rows()
        ]
        return Probed(
            seq=np.array([seq for seq, _, _ in found], np.int64),
            same=np.array([bool(seq) and held == said for seq, held, said in found], np.bool_),
        )

    def insert(self, identities: pl.DataFrame, *, first_seq: Seq, received_at: Micros) -> None:
        """Remember; a known identity would be a bug."""
        assert received_at
        for place, (source, identity, content) in enumerate(identities.iter_rows()):
            assert (source, identity) not in self.known
            self.known[source, identity] = (first_seq + place, content)

    def void(self, seqs: Sequence[int]) -> None:
        """Mark."""
        self.voids.update(seqs)

    def is_void(self, seqs: Sequence[int]) -> list[bool]:
        """Whether marked."""
        return [seq in self.voids for seq in seqs]


def event(**changes: Any) -> dict[str, Any]:
    """A valid event, with changes; a change to None removes the attribute."""
    usual = {
        "specversion": "1.0",
        "id": "e1",
        "source": "s",
        "type": "t",
        "subject": "acme",
        "time": TIME,
        "data": {"tokens": 5},
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def standard(rules: IngestRules | None = None, limits: IngestLimits | None = None) -> Standard:
    """What events are held to in tests: no meters, default limits."""
    return Standard(rules=rules or IngestRules(), limits=limits or IngestLimits(), now_us=NOW)


def checked(*events: Mapping[str, Any]) -> Checked:
    """A validated JSON body of events."""
    body = Body(content=json.dumps(events).encode(), content_type="application/json")
    return validate(decode(body), standard())
