"""Columns of events to records without a Python object an event: what most columnar bodies are.

As with JSON (:mod:`ingest.scan`) nothing is refused here. Whatever is not plain - a missing text,
times as text, an escape in the data, a value a meter may refuse - leaves the table to
:mod:`ingest.decode.rows` and :mod:`ingest.validate`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from catalog.clock import SECOND_US
from ingest.batch import IngestLimits, event_records
from ingest.decode.columnar import frame_of
from ingest.decode.diagnose import SPECVERSION
from ingest.decode.rows import data_text
from ingest.identity import addresses
from ingest.kernels.event_columns import check
from ingest.kernels.json_events import PADDING_BYTES, PADDING_QUOTES, SCRATCH_CELLS
from ingest.values import IngestRules, judge_values

Keys = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

_DOUBTS_MAX = 64
_TEXTS = ("source", "id", "type", "subject")
_US: Mapping[str, int] = {"s": SECOND_US, "ms": 1_000, "us": 1}


def plain_records(
    table: pa.Table,
    *,
    limits: IngestLimits,
    bounds: tuple[int, int],
    keys: Keys,
    rules: IngestRules,
) -> pa.RecordBatch | None:
    """The events of a checked table as APPENDED_ARROW, or None if it must be read carefully.

    Args:
        table: see :func:`ingest.decode.columnar.read_arrow`.
        limits: what one event may hold.
        bounds: the earliest and the latest time.
        keys: what meters read: see :func:`ingest.values.measured_keys`.
        rules: the same as rules.
    """
    times = _times(table, bounds)
    texts = [text for name in _TEXTS if (text := _strings(table, name)) is not None]
    if times is None or len(texts) < len(_TEXTS) or not _is_current(table):
        return None
    data = _data(table)
    if data is None:
        return None
    doubts = np.zeros(table.num_rows, np.uint8)
    if not _check(texts, data, keys, limits, doubts):
        return None
    doubtful = np.flatnonzero(doubts)
    if len(doubtful) > _DOUBTS_MAX:
        return None
    for row in doubtful.tolist():
        if judge_values(texts[2][row].as_py(), data[row].as_py(), rules) is not None:
            return None
    micros, given = times
    return event_records([*texts, data], micros=micros, given=given)


def _strings(table: pa.Table, name: str) -> pa.StringArray | None:
    """A column as strings without nulls, None if it is no such column."""
    if name not in table.column_names:
        return None
    column = table.column(name)
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column.null_count or not _is_text(kind):
        return None
    return _whole(column.cast(pa.string()))


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _is_current(table: pa.Table) -> bool:
    if "specversion" not in table.column_names:
        return True
    column = table.column("specversion")
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _is_text(kind) or not table.num_rows:
        return False
    equal = pc.all(pc.equal(column.cast(pa.string()), SPECVERSION), skip_nulls=False)
    return equal.as_py() is True


def _times(
    table: pa.Table, bounds: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None:
    """Times in microseconds and which were given; None unless all are exact and in range."""
    rows = table.num_rows
    if "time" not in table.column_names:
        return np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    column = table.column("time")
    if not pa.types.is_timestamp(column.type) or column.type.unit not in _US or not rows:
        return None
    scale = _US[column.type.unit]
    whole = _whole(column.cast(pa.int64()))
    given = whole.is_valid().to_numpy(zero_copy_only=False)
    found = whole.fill_null(bounds[0] // scale + 1).to_numpy()
    if found.min() < bounds[0] // scale + 1 or found.max() > bounds[1] // scale:
        return None
    return found * scale, given


def _data(table: pa.Table) -> pa.StringArray | None:
    """The data of every row as JSON text; None if its column is neither text nor typed."""
    if "data" in table.column_names and _is_text(table.schema.field("data").type):
        if any(name.startswith("data.") for name in table.column_names):
            return None
        column = table.column("data").cast(pa.string())
        return _whole(column.fill_null("{}") if column.null_count else column)
    names = [name for name in table.column_names if name.split(".")[0] == "data"]
    if not names:
        return pa.array(["{}"] * table.num_rows, pa.string())
    frame = frame_of(table.select(names))
    text = frame.lazy().select(data_text(frame).alias("data")).collect().get_column("data")
    return _whole(
        pa.chunked_array([text.to_arrow(compat_level=pl.CompatLevel.oldest())]).cast(pa.string())
    )


def _check(
    texts: list[pa.StringArray],
    data: pa.StringArray,
    keys: Keys,
    limits: IngestLimits,
    doubts: npt.NDArray[np.uint8],
) -> bool:
    rows = len(data)
    _, offset_buffer, text_buffer = data.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[data.offset : data.offset + rows + 1]
    size = int(offsets[-1]) if rows else 0
    text = np.empty(size + PADDING_BYTES, np.uint8)
    if size:
        text[:size] = np.frombuffer(text_buffer, np.uint8)[:size]
    text[size:] = 0
    longest = int(np.diff(offsets).max(initial=0))
    return bool(
        check(
            addresses(texts),
            text,
            offsets,
            *keys,
            limits.field_bytes_max,
            limits.event_bytes_max,
            np.empty(longest + PADDING_QUOTES, np.uint32),
            doubts,
            np.empty(SCRATCH_CELLS, np.int64),
        )
    )
