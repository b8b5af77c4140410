"""Closed lines as they were closed: one row a line."""

from __future__ import annotations

import polars as pl

from outbound.documents.base import Document
from outbound.streams import LINES_READ, Batch, Stream

NAMES = ("sequence", *(name for name in LINES_READ if name != "sequence"))
COLUMNS = pl.Schema({name: LINES_READ[name] for name in NAMES})


def rows(batch: Batch, _: object) -> pl.DataFrame:
    """The lines, in the order they were closed."""
    return batch.lines.select(COLUMNS.names())


DOCUMENT = Document(name="lines", columns=COLUMNS, rows=rows, stream=lambda _: Stream.LINES)
