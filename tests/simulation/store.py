"""ClickHouse as far as its writer sees it: rows that stay, and every way an insert can go wrong.

It outlives all processes. An insert is atomic within one month of receipt (one part) and nothing
more: a batch over two months may arrive in part. A token that came before is dropped in silence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from types import SimpleNamespace
from typing import Any

import polars as pl

from storage.clickhouse.batches import Table
from storage.clickhouse.client import StoreUnavailable

TOKENS_KEPT = 3
FAULTS = ("down", "rejected", "answer lost", "answer late", "partial")


class MemoryClickHouse:
    """What ``ClickHouseStore`` needs of :class:`storage.clickhouse.client.ClickHouse`.

    ``parts`` are the inserted frames by table. ``faults`` is what the next inserts come to.
    """

    def __init__(self, chance: Random, seen: Counter[str]) -> None:
        self.address = SimpleNamespace(database="sim")
        self.chance = chance
        self.seen = seen
        self.parts: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self.faults: list[str] = []
        self.queries_fail = 0.0
        self.running: list[tuple[str, pl.DataFrame, str]] = []
        self.fresh: list[tuple[str, pl.DataFrame]] = []
        self._tokens: dict[str, list[str]] = defaultdict(list)

    def command(self, sql: str) -> None:
        """The schema needs no making."""

    def query(self, sql: str, parameters: object = None) -> pl.DataFrame:
        """The two questions a writer asks."""
        del parameters
        if self.chance.random() < self.queries_fail:
            self.seen["store: question failed"] += 1
            raise StoreUnavailable("no answer")
        if "system.processes" in sql:
            return pl.DataFrame({"running": [len(self.running)]})
        return self._positions(sql.split("FROM ")[1].split(maxsplit=1)[0])

    def _positions(self, table: str) -> pl.DataFrame:
        markers = [part.filter("marker") for part in self.parts[Table(table)]]
        if not markers:
            return pl.DataFrame()
        return (
            pl.concat(markers)
            .group_by("node", "specs")
            .agg(
                first=pl.col("first_seq").min(),
                last=pl.col("last_seq").max(),
                records=(pl.col("last_seq") - pl.col("first_seq") + 1).sum(),
                received=pl.col("received_at").max().dt.epoch("us"),
            )
            .sort("node")
        )

    def insert(self, table: str, rows: pl.DataFrame, *, token: str, query_id: str) -> None:
        """Store the rows, as the next fault allows."""
        del query_id
        fault = self.faults.pop() if self.faults else "none"
        if fault == "none" and len(self._partitions(rows)) > 1 and self.chance.random() < 0.3:
            fault = "partial"  # nothing but a bug: it is looked for
        if fault != "none":
            self.seen[f"store: {fault}"] += 1
        match fault:
            case "down" | "rejected":
                raise StoreUnavailable(fault)
            case "answer late":
                self.running.append((table, rows, token))
                raise StoreUnavailable("no answer yet")
            case "partial":
                parts = self._partitions(rows)
                for part in parts[: self.chance.randint(0, len(parts) - 1)]:
                    self._keep(table, part)
                raise StoreUnavailable("the server died during the insert")
        self._store(table, rows, token)
        if fault == "answer lost":
            raise StoreUnavailable("the answer was lost")

    @staticmethod
    def _partitions(rows: pl.DataFrame) -> list[pl.DataFrame]:
        months = rows.with_columns(month=pl.col("received_at").dt.truncate("1mo"))
        return months.partition_by("month", maintain_order=True, include_key=False)

    def _store(self, table: str, rows: pl.DataFrame, token: str) -> None:
        tokens = self._tokens[table]
        if token in tokens:
            self.seen["store: token dropped"] += 1
            return
        self._tokens[table] = [*tokens, token][-TOKENS_KEPT:]
        for part in self._partitions(rows):
            self._keep(table, part)

    def _keep(self, table: str, part: pl.DataFrame) -> None:
        self.parts[table].append(part)
        self.fresh.append((table, part))

    def land(self, *, succeed: bool) -> None:
        """An insert whose answer nobody awaits any more ends, in rows or in nothing."""
        table, rows, token = self.running.pop(0)
        if succeed:
            self._store(table, rows, token)
            self.seen["store: late insert arrived"] += 1

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Everything in a table but the markers."""
        kept = [part.filter(~pl.col("marker")) for part in self.parts[table]]
        return pl.concat(kept).to_dicts() if kept else []
