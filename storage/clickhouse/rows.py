"""Stored rows by where they come from in the log, as verify reads them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from catalog.ids import NodeId, Seq
from storage.clickhouse.batches import SCHEMAS, Table
from storage.clickhouse.client import ClickHouse


class ClickHouseRows:
    """Reads a stretch of one node's rows back, markers left out."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def read(
        self,
        table: Table,
        node: NodeId,
        *,
        first: Seq,
        last: Seq,
        specs: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows of ``table`` for records ``[first, last]`` of ``node`` (of ``specs``), unordered."""
        schema = SCHEMAS[table]
        sql = (
            f"SELECT {', '.join(schema)} FROM {table} "  # noqa: S608 - names of our own schema
            "WHERE NOT marker AND node = {node:String} "
            "AND seq BETWEEN {first:Int64} AND {last:Int64}"
        )
        parameters: dict[str, object] = {"node": node, "first": first, "last": last}
        if specs is not None:
            sql += " AND spec IN {specs:Array(String)}"
            parameters["specs"] = list(specs)
        rows = self._clickhouse.query(sql, parameters)
        return rows.select(list(schema)).cast(schema) if rows.width else schema.to_frame()
