"""Columnar bodies: an Arrow IPC stream or a Parquet file, one event a row."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.batch import Decoded, IngestLimits, TooManyEvents, UnreadableBody
from ingest.decode.arrow_limits import check_declared, check_names, check_text
from ingest.decode.rows import decode_rows

_UNREADABLE = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
)
"""What pyarrow and Polars raise on bytes that are no Arrow or Parquet."""

_PARQUET_VALUES_PER_EVENT_MAX = 256
_THRIFT_ITEMS_MAX = 100_000


def read_arrow(content: bytes, limits: IngestLimits) -> pa.Table:
    """The columns of an Arrow IPC stream that an event may have, checked for what they claim.

    Raises:
        UnreadableBody, TooManyEvents: see there.
    """
    try:
        check_declared(content, limits)
        source = pa.BufferReader(content)
        with pa.ipc.open_stream(source) as stream:
            table = stream.read_all()
        if content[source.tell() :].strip(b"\x00"):
            raise UnreadableBody("bytes follow the end of the Arrow stream")
        return _checked_table(table, limits)
    except _UNREADABLE as error:
        raise UnreadableBody(f"the body is not an Arrow stream: {_first_line(error)}") from None


def read_parquet(content: bytes, limits: IngestLimits) -> pa.Table:
    """The same of a Parquet file; raises as :func:`read_arrow`."""
    try:
        return _checked_table(_read_parquet(content, limits), limits)
    except _UNREADABLE as error:
        raise UnreadableBody(f"the body is not a Parquet file: {_first_line(error)}") from None


def decode_arrow(content: bytes, limits: IngestLimits) -> Decoded:
    """Read an Arrow IPC stream; raises as :func:`read_arrow`."""
    return decode_table(read_arrow(content, limits))


def decode_parquet(content: bytes, limits: IngestLimits) -> Decoded:
    """Read a Parquet file; raises as :func:`read_arrow`."""
    return decode_table(read_parquet(content, limits))


def _read_parquet(content: bytes, limits: IngestLimits) -> pa.Table:
    """The table, its texts still dictionaries: a repeated text costs nothing before it is counted.

    The footer says how large everything is; a footer that lies fails to read.
    """
    caps = {
        "thrift_string_size_limit": len(content),
        "thrift_container_size_limit": _THRIFT_ITEMS_MAX,
    }
    footer = pq.read_metadata(pa.BufferReader(content))
    if footer.num_rows > limits.events_max:
        raise TooManyEvents(f"more than {limits.events_max} events in one body")
    values, size_bytes, texts = 0, 0, set()
    for group in range(footer.num_row_groups):
        for place in range(footer.num_columns):
            chunk = footer.row_group(group).column(place)
            values += chunk.num_values
            size_bytes += chunk.total_uncompressed_size
            if chunk.physical_type == "BYTE_ARRAY":
                texts.add(chunk.path_in_schema)
    if size_bytes > limits.inflated_bytes_max:
        raise UnreadableBody(f"the file inflates beyond {limits.inflated_bytes_max} bytes")
    if values > limits.events_max * _PARQUET_VALUES_PER_EVENT_MAX:
        raise UnreadableBody("the file declares more values than its events may have")
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=sorted(texts), **caps)
    return file.read(use_threads=False)


def _checked_table(table: pa.Table, limits: IngestLimits) -> pa.Table:
    if table.num_rows > limits.events_max:
        raise TooManyEvents(f"more than {limits.events_max} events in one body")
    names = table.column_names
    if len(set(names)) != len(names):
        raise UnreadableBody("two columns have the same name")
    wanted = [name for name in names if name in _READ or name.startswith("data.")]
    table = table.select(wanted)
    check_names(table.schema)
    table.validate(full=True)  # offsets and lengths come from outside: nothing is trusted unread
    check_text(table, limits)
    return table


def decode_table(table: pa.Table) -> Decoded:
    """The events of a checked table.

    Raises:
        UnreadableBody: its columns contradict each other.
    """
    try:
        return decode_rows(table, frame_of(table))
    except _UNREADABLE as error:
        raise UnreadableBody(f"the columns cannot be read: {_first_line(error)}") from None


def frame_of(table: pa.Table) -> pl.DataFrame:
    """A checked table in Polars, timestamps as integers."""
    return pl.DataFrame(pl.from_arrow(_simplified(table).replace_schema_metadata(None)))


_READ = frozenset({"id", "source", "type", "subject", "specversion", "time", "data"})


def _simplified(table: pa.Table) -> pa.Table:
    """Without what Polars need not know: timestamps as integers, dictionaries as their values."""
    for place, field in enumerate(table.schema):
        if field.name == "time" and pa.types.is_timestamp(field.type):
            table = table.set_column(place, "time", table.column(place).cast(pa.int64()))
    return table


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
