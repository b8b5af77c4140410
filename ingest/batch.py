"""A body on its way to the log: its events, and those that were refused, by index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import polars as pl

from catalog.clock import SECOND_US
from catalog.errors import DomainError
from catalog.events import INSTANT, RejectCode

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

UNCHECKED = pl.Schema({**INCOMING, "time_text": pl.String()})
"""INCOMING before it is validated. Where ``time`` came as text it stands in ``time_text`` yet."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's body, inflated, with its headers by lower-case name."""

    content: bytes
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Decoded events as columns of Python values: the cheapest form out of a JSON parser.

    All columns have one length. ``data`` is the JSON text as bytes or ``msgspec.Raw``.
    """

    index: Sequence[int]
    source: list[str]
    id: list[str]
    type: list[str]
    subject: list[str]
    time: list[str | None]
    data: list[msgspec.Raw | bytes]

    def __len__(self) -> int:
        return len(self.source)

    def frame(self) -> pl.DataFrame:
        """The same as an UNCHECKED frame, ``time`` not parsed yet."""
        columns = {
            "index": pl.Series(self.index, dtype=pl.Int64),
            "source": self.source,
            "id": self.id,
            "type": self.type,
            "subject": self.subject,
            "time": pl.Series([None], dtype=INSTANT).new_from_index(0, len(self)),
            "time_given": [text is not None for text in self.time],
            "data": column_of(self.data),
            "time_text": self.time,
        }
        return pl.DataFrame(columns, schema=UNCHECKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a body says. ``received`` counts its events: those here and those rejected."""

    events: Texts | pl.DataFrame
    rejected: list[Rejection]
    received: int
    size_bytes: int = 0


Row = tuple[int, str, str, str, str, int | None, str]
"""INCOMING as a tuple: index, source, id, type, subject, time in µs (null: not given), data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A body that was validated: what may be accepted, and every rejection so far.

    ``events`` is INCOMING, or rows of it where they are too few to be worth a frame.
    """

    events: list[Row] | pl.DataFrame
    rejected: list[Rejection]
    size_bytes: int = 0

    def __len__(self) -> int:
        return len(self.events)


def column_of(texts: Iterable[msgspec.Raw | bytes]) -> pl.Series:
    """JSON texts as a String column. One join and one split, instead of one copy a row.

    Nothing valid in JSON holds the separator: control characters must be escaped there.
    """
    joined = pl.DataFrame({"data": [b"\x1f".join(texts).decode()]})
    return joined.select(pl.col("data").str.split("\x1f").explode()).to_series()


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as an INCOMING frame."""
    if not rows:
        return INCOMING.to_frame()
    index, source, identity, kind, subject, time, data = zip(*rows, strict=True)
    columns = {
        "index": index,
        "source": source,
        "id": identity,
        "type": kind,
        "subject": subject,
        "time": pl.Series(time, dtype=pl.Int64).cast(INSTANT),
        "time_given": [moment is not None for moment in time],
        "data": data,
    }
    return pl.DataFrame(columns, schema=INCOMING)
