"""What one insert holds: rows of one table, and the marker row that says which log range."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from catalog.events import FACTS, INSTANT, RECORDS, VOIDS
from catalog.ids import NodeId, Seq

BATCH_BYTES_MAX = 64 * 1024 * 1024


class Table(StrEnum):
    """The tables, each with a position of its own."""

    EVENTS = "events"
    FACTS = "facts"
    VOIDS = "voids"


EVENTS = pl.Schema(
    {"node": pl.String(), **{k: RECORDS[k] for k in RECORDS if k not in {"kind", "target"}}}
)
"""One row an event: RECORDS of kind event with their node."""

SCHEMAS = {Table.EVENTS: EVENTS, Table.FACTS: FACTS, Table.VOIDS: VOIDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All that ``[first, last]`` of one node's log says for one table (and ``specs`` of facts).

    ``rows`` have the table's schema and were all received in one month, as was ``received_at``,
    the last record's.
    """

    table: Table
    node: NodeId
    first: Seq
    last: Seq
    received_at: int
    rows: pl.DataFrame
    specs: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """The same for the same range: what a server drops when it comes twice."""
        specs = hashlib.sha256("\n".join(sorted(self.specs)).encode()).hexdigest()[:16]
        return f"{self.table}-{self.node}-{self.first}-{self.last}-{specs}"


def cut(records: pl.DataFrame, *, bytes_max: int = BATCH_BYTES_MAX) -> pl.DataFrame:
    """The longest beginning of ``records`` that fits one batch: one month of receipt, bounded.

    At least one record of a frame that has any.
    """
    month = pl.col("received_at").dt.truncate("1mo")
    size = pl.col("data").str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum()
    fits = (month == month.first()) & ((size <= bytes_max) | (pl.int_range(pl.len()) == 0))
    return records.head(int(records.select(fits.sum()).item())) if records.height else records


def insertable(batch: Batch) -> pl.DataFrame:
    """The rows of ``batch`` and its marker, as they are inserted."""
    schema = SCHEMAS[batch.table]
    rows = batch.rows.select(list(schema)).with_columns(
        marker=pl.lit(value=False),
        first_seq=pl.lit(batch.first, pl.Int64),
        last_seq=pl.lit(batch.last, pl.Int64),
        batch_rows=pl.lit(batch.rows.height, pl.Int64),
        specs=pl.lit([], pl.List(pl.String)),
    )
    return pl.concat([rows, _marker(batch).select(rows.columns)])


def _marker(batch: Batch) -> pl.DataFrame:
    schema = SCHEMAS[batch.table]
    specs: Sequence[str] = sorted(batch.specs)
    known = {
        "marker": pl.lit(value=True),
        "node": pl.lit(batch.node),
        "seq": pl.lit(batch.last, pl.Int64),
        "received_at": pl.lit(batch.received_at).cast(INSTANT),
        "first_seq": pl.lit(batch.first, pl.Int64),
        "last_seq": pl.lit(batch.last, pl.Int64),
        "batch_rows": pl.lit(batch.rows.height, pl.Int64),
        "specs": pl.lit(pl.Series([list(specs)], dtype=pl.List(pl.String))),
    }
    blank = [_blank(dtype).alias(name) for name, dtype in schema.items() if name not in known]
    return pl.DataFrame().select([*(value.alias(name) for name, value in known.items()), *blank])


def _blank(dtype: pl.DataType) -> pl.Expr:
    """What stands in a marker where a row has data: columns of the tables are not nullable."""
    if dtype == pl.String:
        return pl.lit("")
    if dtype == INSTANT:
        return pl.lit(0).cast(INSTANT)
    return pl.lit(0).cast(dtype)
