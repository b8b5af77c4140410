"""A log and an index in a few lines of memory, and bodies to send them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.clock import FixedClock, Micros, to_micros
from catalog.events import INSTANT, RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from ingest.batch import Body, Checked, IngestLimits
from ingest.decode import decode
from ingest.identity import Identities
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

    def append(self, batch: pa.RecordBatch) -> Appended:
        """Number and keep ``batch``."""
        records = pl.DataFrame(pl.from_arrow(batch))
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
        self.known: dict[tuple[int, int], tuple[int, int]] = {}
        self.voids: set[int] = set()
        self.key = np.array([7, 8], np.uint64)

    def probe(self, identities: Identities) -> Probed:
        """Look up."""
        rows = zip(identities.low.tolist(), identities.high.tolist(), strict=True)
        found = [self.known.get(pair, (0, 0)) for pair in rows]
        said = identities.content.tolist()
        same = [bool(seq) and held == now for (seq, held), now in zip(found, said, strict=True)]
        return Probed(
            seq=np.array([seq for seq, _ in found], np.int64), same=np.array(same, np.bool_)
        )

    def insert(self, identities: Identities, *, first_seq: Seq, received_at: Micros) -> None:
        """Remember; a known identity would be a bug."""
        assert received_at
        rows = zip(identities.low.tolist(), identities.high.tolist(), strict=True)
        for seq, (pair, content) in enumerate(
            zip(rows, identities.content.tolist(), strict=True), first_seq
        ):
            assert pair not in self.known
            self.known[pair] = (seq, content)

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


def rows_of(checked: Checked) -> list[dict[str, Any]]:
    """The events that may be accepted, one dictionary each, with their ``index``."""
    rows = checked.records.to_pylist()
    return [row | {"index": index} for row, index in zip(rows, checked.index, strict=True)]
