"""A body on its way to the log: its events, and those that were refused, by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.clock import SECOND_US
from catalog.errors import DomainError
from catalog.events import INSTANT, RECORDS, RecordKind, RejectCode

MIB = 1024**2

INCOMING = pl.Schema(
    {
        "index": pl.Int64(),
        "source": pl.String(),
        "id": pl.String(),
        "type": pl.String(),
        "subject": pl.String(),
        "time": INSTANT,
        "time_given": pl.Boolean(),
        "data": pl.String(),
    }
)
"""One row an event that may be accepted. ``index`` is its place in the body (an NDJSON body's blank
lines have none); ``time`` is null where the sender gave none; ``data`` is JSON text."""


APPENDED = pl.Schema(
    {name: kind for name, kind in RECORDS.items() if name not in {"seq", "received_at"}}
)
"""RECORDS as they are before the log numbers them."""

_ARROW_TYPES = {
    pl.UInt8(): pa.uint8(),
    pl.String(): pa.string(),
    INSTANT: pa.timestamp("us", tz="UTC"),
    pl.Boolean(): pa.bool_(),
    pl.Int64(): pa.int64(),
}
APPENDED_ARROW = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in APPENDED.items()])
"""APPENDED as the log stores it: events are never anything but Arrow on their way there."""

_EVENT_KIND = np.full(1 << 16, RecordKind.EVENT.value, np.uint8)


class UnreadableBody(DomainError):
    """The body is not what its content type says; nothing of it was kept."""

    code = "unreadable_body"


class EmptyBody(DomainError):
    """The body has no bytes."""

    code = "empty_body"


class UnsupportedMediaType(DomainError):
    """Nobody here reads that content type or encoding."""

    code = "unsupported_media_type"


class BodyTooLarge(DomainError):
    """The body, or what it inflates to, is over its limit."""

    code = "body_too_large"


class TooManyEvents(BodyTooLarge):
    """The body holds more events than one body may."""

    code = "too_many_events"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """How much one body, one event and the queue may hold."""

    body_bytes_max: int = 16 * MIB
    inflated_bytes_max: int = 64 * MIB
    inflation_ratio_max: int = 100
    body_s_max: float = 60.0
    events_max: int = 50_000
    event_bytes_max: int = 64 * 1024
    field_bytes_max: int = 256
    ahead_us_max: int = 3600 * SECOND_US
    queue_events_max: int = 500_000
    queue_bytes_max: int = 256 * MIB
    group_events_max: int = 50_000
    group_bytes_max: int = 32 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why the event at ``index`` was not accepted. ``id`` is null where it could not be read."""

    index: int
    id: str | None
    code: RejectCode
    detail: str

    def as_json(self) -> dict[str, object]:
        """As replies show it."""
        return {"index": self.index, "id": self.id, "code": self.code.value, "detail": self.detail}


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A request's body, inflated, with its headers by lower-case name."""

    content: bytes
    content_type: str = ""
    headers: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Events as columns of Python values: the form that is cheapest to get out of a JSON parser.

    All columns have one length. ``index`` is an event's place in its body (an NDJSON body's blank
    lines have none). ``time`` is null where none was given, else RFC 3339 text as it came or
    microseconds since 1970; after validation it is microseconds. ``data`` is JSON text; ``parsed``
    the same as msgspec reads it (floats and all), where that was at hand.
    """

    index: Sequence[int]
    source: list[str]
    id: list[str]
    type: list[str]
    subject: list[str]
    time: Sequence[str | int | None]
    data: list[str]
    parsed: Sequence[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def records(self) -> pa.RecordBatch:
        """The same as APPENDED_ARROW events, once validated."""
        given = np.array([time is not None for time in self.time], np.bool_)
        micros = np.array([0 if time is None else time for time in self.time], np.int64)
        texts = (self.source, self.id, self.type, self.subject, self.data)
        return event_records(
            [pa.array(column, pa.string()) for column in texts], micros=micros, given=given
        )

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Columns:
        """The columns of an INCOMING frame."""
        names = ("index", "source", "id", "type", "subject", "data")
        columns = {name: frame[name].to_list() for name in names}
        return cls(**columns, time=frame["time"].to_physical().to_list())

    def keep(self, rows: Sequence[int]) -> Columns:
        """Only the given rows, in the order given."""
        columns = (self.index, self.source, self.id, self.type, self.subject, self.time, self.data)
        picked = [[column[row] for row in rows] for column in columns]
        names = ("index", "source", "id", "type", "subject", "time", "data")
        return Columns(**dict(zip(names, picked, strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a body says. ``received`` counts its events: those here and those rejected."""

    events: Columns
    rejected: list[Rejection]
    received: int
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A body that was validated: what may be accepted, and every rejection so far, by index.

    ``records`` are APPENDED_ARROW events, ``index`` their places in the body.
    """

    records: pa.RecordBatch
    index: Sequence[int]
    rejected: list[Rejection]
    size_bytes: int = 0

    def __len__(self) -> int:
        return int(self.records.num_rows)


def event_records(
    texts: Sequence[pa.StringArray],
    *,
    micros: npt.NDArray[np.int64],
    given: npt.NDArray[np.bool_],
) -> pa.RecordBatch:
    """APPENDED_ARROW events.

    Args:
        texts: source, id, type, subject and data.
        micros: their times, which must not be changed afterwards; anything where none was given.
        given: whether there is a time.
    """
    rows = len(given)
    source, identity, kind, subject, data = texts
    bits = pa.py_buffer(np.packbits(given, bitorder="little"))
    ones = _EVENT_KIND[:rows] if rows <= len(_EVENT_KIND) else np.full(rows, _EVENT_KIND[0])
    columns = [
        pa.UInt8Array.from_buffers(pa.uint8(), rows, [None, pa.py_buffer(ones)]),
        source,
        identity,
        kind,
        subject,
        pa.Array.from_buffers(
            APPENDED_ARROW.field("time").type, rows, [bits, pa.py_buffer(micros)]
        ),
        pa.BooleanArray.from_buffers(pa.bool_(), rows, [None, bits]),
        data,
        pa.nulls(rows, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=APPENDED_ARROW)


def to_records(frame: pl.DataFrame) -> pa.RecordBatch:
    """An APPENDED frame as APPENDED_ARROW."""
    if frame.columns != APPENDED.names():
        frame = frame.select(APPENDED.names())  # a query, which asks threads
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return one_batch(table.cast(APPENDED_ARROW).to_batches())


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Several APPENDED_ARROW batches as one, in the order given."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=APPENDED_ARROW)
    return pa.concat_batches(batches)
