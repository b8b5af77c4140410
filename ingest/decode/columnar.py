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


def decode_arrow(content: bytes, limits: IngestLimits) -> Decoded:
    """Read an Arrow IPC stream.

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
        return _decode_table(table, limits)
    except _UNREADABLE as error:
        raise UnreadableBody(f"the body is not an Arrow stream: {_first_line(error)}") from None


def decode_parquet(content: bytes, limits: IngestLimits) -> Decoded:
    """Read a Parquet file.

    Raises:
        UnreadableBody, TooManyEvents: see there.
    """
    try:
        table = _read_parquet(content, limits)
        return _decode_table(table, limits)
    except _UNREADABLE as error:
        raise UnreadableBody(f"the body is not a Parquet file: {_first_line(error)}") from None


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


def _decode_table(table: pa.Table, limits: IngestLimits) -> Decoded:
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
    plain = _simplified(table).replace_schema_metadata(None)
    return decode_rows(table, pl.DataFrame(pl.from_arrow(plain)))


_READ = frozenset({"id", "source", "type", "subject", "specversion", "time", "data"})


def _simplified(table: pa.Table) -> pa.Table:
    """Without what Polars need not know: timestamps as integers, dictionaries as their values."""
    for place, field in enumerate(table.schema):
        if field.name == "time" and pa.types.is_timestamp(field.type):
            table = table.set_column(place, "time", table.column(place).cast(pa.int64()))
    return table


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
