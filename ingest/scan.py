"""Plain JSON bodies to records, all bodies of a group in one pass.

What most bodies are (see :mod:`ingest.kernels.json_events`) is read here, at about a third of a
microsecond an event. A body with anything else in it is *careful*: it goes through
:mod:`ingest.decode` and :mod:`ingest.validate`, which know every rule and give every reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.clock import Clock
from catalog.events import RESERVED_SOURCE
from ingest.batch import Body, Checked, IngestLimits, event_records
from ingest.decode import decode
from ingest.decode.binary import is_binary
from ingest.decode.columnar import decode_table, read_arrow, read_parquet
from ingest.kernels import json_events
from ingest.kernels.json_events import CAREFUL, PADDING_BYTES, PADDING_QUOTES, TEXTS
from ingest.kernels.strings import OVERRUN_BYTES, gather, measure
from ingest.plain_columns import Keys, plain_records
from ingest.times import EARLIEST_US, LATEST_US
from ingest.validate import Standard, validate
from ingest.values import IngestRules, judge_values, measured_keys

_EVENT_BYTES_MIN = len('{"id":"i","source":"s","type":"t","subject":"s"}')
_DOUBTS_MAX = 64
"""More doubtful values than these in one body are judged faster by the careful way."""

_JSON = "application/json"
_BATCH = "application/cloudevents-batch+json"
_ONE = "application/cloudevents+json"
_LINES = "application/x-ndjson"
_TABLES = {
    "application/vnd.apache.arrow.stream": read_arrow,
    "application/vnd.apache.parquet": read_parquet,
}
_OPENS = {_JSON: (b"[", b"{"), _BATCH: (b"[",), _ONE: (b"{",), _LINES: (b"{",)}


_RESERVED = f'"{RESERVED_SOURCE}"'.encode()


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """A body that may be scanned: it says it is JSON, and it is UTF-8."""

    body: Body
    lines: bool

    @property
    def size_bytes(self) -> int:
        """The length of the body."""
        return len(self.body.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """The events of several bodies, one body behind the other, and how many each has.

    ``counts`` is CAREFUL for a body that must be read carefully; it has no events here.
    """

    records: pa.RecordBatch
    counts: list[int]


def plain_body(body: Body) -> Plain | None:
    """``body``, if the scanner may try it."""
    media, content = body.content_type, body.content
    if content[:1] not in _OPENS.get(media, ()) or is_binary(media, body.headers):
        return None
    if _RESERVED in content:  # the scanner does not compare texts: the rule is the validator's
        return None
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError:
            return None
    return Plain(body=body, lines=media == _LINES)


class BodyReader:
    """Reads bodies against the catalog's rules as they are now. One thread at a time."""

    def __init__(
        self, *, limits: IngestLimits, rules: Callable[[], IngestRules], clock: Clock
    ) -> None:
        self._limits = limits
        self._rules = rules
        self._clock = clock
        self._scratch = _Scratch()
        self._keys_of: IngestRules | None = None
        self._keys = measured_keys(IngestRules())

    def read(self, body: Body) -> Checked:
        """Read one body whole, plain or not.

        Raises:
            EmptyBody, UnreadableBody, UnsupportedMediaType, TooManyEvents: nothing of it stands.
        """
        plain = plain_body(body)
        if plain is not None:
            scanned = self.scan([plain])
            if scanned.counts[0] != CAREFUL:
                return Checked(
                    records=scanned.records,
                    index=range(scanned.counts[0]),
                    rejected=[],
                    size_bytes=plain.size_bytes,
                )
        if body.content and body.content_type in _TABLES:
            return self._read_table(body)
        return self.read_carefully(body)

    def _read_table(self, body: Body) -> Checked:
        table = _TABLES[body.content_type](body.content, self._limits)
        earliest, latest = self._bounds()[:2].tolist()
        records = plain_records(
            table,
            limits=self._limits,
            bounds=(earliest, latest),
            keys=self._measured(self._rules()),
            rules=self._rules(),
        )
        size_bytes = len(body.content)
        if records is None:
            decoded = replace(decode_table(table), size_bytes=size_bytes)
            return validate(decoded, self._standard())
        rows = range(table.num_rows)
        return Checked(records=records, index=rows, rejected=[], size_bytes=size_bytes)

    def read_carefully(self, body: Body) -> Checked:
        """Read one body with every rule; raises as :meth:`read`."""
        return validate(decode(body, self._limits), self._standard())

    def _standard(self) -> Standard:
        return Standard(rules=self._rules(), limits=self._limits, now_us=self._clock.now_us())

    def _measured(self, rules: IngestRules) -> Keys:
        if rules is not self._keys_of:
            self._keys_of, self._keys = rules, measured_keys(rules)
        return self._keys

    def scan(self, bodies: Sequence[Plain]) -> Scanned:
        """Find the events of many bodies."""
        rules = self._rules()
        contents = [plain.body.content for plain in bodies]
        text = np.frombuffer(b"".join([*contents, b"\0" * PADDING_BYTES]), np.uint8)
        ends = np.cumsum([len(content) for content in contents])
        found = self._scratch.room(text.size, max(map(len, contents)), len(bodies), self._limits)
        counts = np.empty(len(bodies), np.int64)
        rows = json_events.scan(
            text,
            ends,
            np.array([plain.lines for plain in bodies], np.uint8),
            *self._measured(rules),
            self._bounds(),
            found.quotes,
            counts,
            found.spans,
            found.times,
            found.given,
            found.doubts,
            np.empty(json_events.SCRATCH_CELLS, np.int64),
        )
        if found.doubts[:rows].any():
            rows = self._settle_doubts(bodies, counts, rows, rules)
        return Scanned(records=_records(text, found, rows), counts=counts.tolist())

    def _bounds(self) -> npt.NDArray[np.int64]:
        latest = min(LATEST_US - 1, self._clock.now_us() + self._limits.ahead_us_max)
        limits = self._limits
        each = (
            EARLIEST_US,
            latest,
            limits.field_bytes_max,
            limits.event_bytes_max,
            limits.events_max,
        )
        return np.array(each, np.int64)

    def _settle_doubts(
        self, bodies: Sequence[Plain], counts: npt.NDArray[np.int64], rows: int, rules: IngestRules
    ) -> int:
        """Judge doubtful values; a body in which one is refused is careful. The rows that stay."""
        found = self._scratch
        bounds = np.cumsum([0, *np.maximum(counts, 0)]).tolist()
        begins = np.cumsum([0, *(plain.size_bytes for plain in bodies)]).tolist()
        keep = np.ones(rows, np.bool_)
        for place, (start, end) in enumerate(pairwise(bounds)):
            doubtful = np.flatnonzero(found.doubts[start:end]) + start
            content, begin = bodies[place].body.content, begins[place]
            if len(doubtful) > _DOUBTS_MAX or any(
                found.refused(row, content, begin, rules) for row in doubtful.tolist()
            ):
                counts[place] = CAREFUL
                keep[start:end] = False
        if keep.all():
            return rows
        found.compact(keep)
        return int(keep.sum())


class _Scratch:
    """What a scan fills, kept from one to the next: fresh memory costs more than the scan."""

    def __init__(self) -> None:
        self._make(rows=1 << 10, quotes=1 << 16)

    def _make(self, *, rows: int, quotes: int) -> None:
        self.spans = np.empty((rows, 2 * TEXTS), np.uint32)
        self.times = np.empty(rows, np.int64)
        self.given = np.empty(rows, np.uint8)
        self.doubts = np.empty(rows, np.uint8)
        self.quotes = np.empty(quotes, np.uint32)

    def room(self, text_bytes: int, body_bytes: int, bodies: int, limits: IngestLimits) -> _Scratch:
        """Itself, with room for bodies of so many bytes, the longest and all together."""
        rows = min(text_bytes // _EVENT_BYTES_MIN, bodies * limits.events_max) + bodies + 1
        quotes = body_bytes + PADDING_QUOTES
        if rows > len(self.times) or quotes > len(self.quotes):
            self._make(
                rows=max(2 * rows, len(self.times)), quotes=max(2 * quotes, len(self.quotes))
            )
        return self

    def refused(self, row: int, content: bytes, begin: int, rules: IngestRules) -> bool:
        """Whether a meter cannot read a value of the event in ``row``, whose body begins there."""
        spans = (self.spans[row].astype(np.int64) - begin).tolist()
        kind = content[spans[2 * json_events.TYPE] : spans[2 * json_events.TYPE + 1]]
        data = content[spans[2 * json_events.DATA] : spans[2 * json_events.DATA + 1]]
        return judge_values(kind.decode(), data.decode(), rules) is not None

    def compact(self, keep: npt.NDArray[np.bool_]) -> None:
        """Drop rows."""
        kept = np.flatnonzero(keep)
        for column in (self.spans, self.times, self.given):
            column[: len(kept)] = column[kept]


def _records(text: npt.NDArray[np.uint8], found: _Scratch, rows: int) -> pa.RecordBatch:
    order = (json_events.SOURCE, json_events.ID, json_events.TYPE, json_events.SUBJECT)
    texts = [_strings(text, found.spans, column, rows) for column in order]
    texts.append(_strings(text, found.spans, json_events.DATA, rows, default=len("{}")))
    given = found.given[:rows].astype(np.bool_)
    return event_records(texts, micros=found.times[:rows].copy(), given=given)


def _strings(
    text: npt.NDArray[np.uint8],
    spans: npt.NDArray[np.uint32],
    column: int,
    rows: int,
    *,
    default: int = 0,
) -> pa.StringArray:
    offsets = np.empty(rows + 1, np.int32)
    size = measure(spans, column, rows, default, offsets)
    into = np.empty(size + OVERRUN_BYTES, np.uint8)
    gather(text, spans, column, rows, offsets, into)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(into))
