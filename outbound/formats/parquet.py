"""Parquet: typed columns, zstd."""

from __future__ import annotations

import io

import pyarrow.parquet as pq

from outbound.formats.base import Format, Table


def render(table: Table) -> bytes:
    """One file, decimals and instants as what they are."""
    sink = io.BytesIO()
    pq.write_table(table.typed.to_arrow(), sink, compression="zstd")
    return sink.getvalue()


FORMAT = Format(
    name="parquet",
    suffix="parquet",
    media_type="application/vnd.apache.parquet",
    render=render,
    textual=False,
)
