"""LINES as files piece by piece: a million lines in the memory of a few thousand.

Every function yields the parts of one whole, in order; joined they are the whole. What is held
beside the frame is one piece, as text or as a row group.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rating.rendering import PIECE_ROWS, as_text, csv_chunks

GROUP_ROWS = 65_536
"""Lines of a row group of Parquet: enough for columns to compress well."""
__all__ = ["arrow_chunks", "csv_chunks", "ndjson_chunks", "parquet_chunks"]


def ndjson_chunks(lines: pl.DataFrame) -> Iterator[bytes]:
    """LINES as JSON objects, one a text line, each as a page of totals has it."""
    for part in lines.iter_slices(PIECE_ROWS):
        told = as_text(part).select(line=_json_object(part))
        yield ("\n".join(told["line"]) + "\n").encode()


def arrow_chunks(lines: pl.DataFrame) -> Iterator[bytes]:
    """LINES as an Arrow IPC stream, typed (decimals and timestamps stay what they are)."""
    yield from _written(lines, pa.ipc.new_stream, rows=PIECE_ROWS)


def parquet_chunks(lines: pl.DataFrame) -> Iterator[bytes]:
    """LINES as one zstd Parquet file, typed, a row group a piece."""

    def writer(sink: _Drain, schema: pa.Schema) -> Any:
        return pq.ParquetWriter(sink, schema, compression="zstd")

    yield from _written(lines, writer, rows=GROUP_ROWS)


def _json_object(lines: pl.DataFrame) -> pl.Expr:
    """The columns of :func:`as_text` as one JSON object: dimensions and counts as what they are."""
    place = lines.columns.index("dimensions")
    count = pl.col("event_count").fill_null("0").cast(pl.Int64)
    before = pl.struct(lines.columns[:place]).struct.json_encode()
    after = pl.struct(
        count if name == "event_count" else pl.col(name) for name in lines.columns[place + 1 :]
    ).struct.json_encode()
    return pl.concat_str(
        before.str.head(-1), pl.lit(',"dimensions":'), "dimensions", pl.lit(","), after.str.slice(1)
    )


def _written(
    lines: pl.DataFrame, open_writer: Callable[[_Drain, pa.Schema], Any], *, rows: int
) -> Iterator[bytes]:
    """What a writer of Arrow tables writes, taken from it after every piece."""
    drain = _Drain()
    with open_writer(drain, lines.clear().to_arrow().schema) as writer:
        for part in lines.iter_slices(rows):
            writer.write_table(part.to_arrow())
            yield drain.taken()
    yield drain.taken()


class _Drain(io.RawIOBase):
    """A file that is only written, and emptied by whoever reads it meanwhile."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, part: Any) -> int:
        """Keep ``part`` until it is taken."""
        kept = bytes(part)
        self._parts.append(kept)
        self._written += len(kept)
        return len(kept)

    def tell(self) -> int:
        """How much was written, taken or not."""
        return self._written

    def taken(self) -> bytes:
        """All that was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
