"""Closed lines in ClickHouse, for BI tools: a copy by sequence, and the views over it."""

from __future__ import annotations

from importlib import resources

import polars as pl

from storage.clickhouse.client import ClickHouse

TABLE = "closed_lines"
POSITION = "SELECT max(sequence) AS last FROM closed_lines"
VIEWS = ("revenue_by_day", "revenue_by_product", "revenue_by_customer", "adjustments")
COLUMNS = (
    "sequence",
    "line_id",
    "customer",
    "contract",
    "product",
    "meter",
    "dimensions",
    "kind",
    "timing",
    "period_start",
    "period_end",
    "accounting_date",
    "entity",
    "currency",
    "quantity",
    "amount",
    "event_count",
    "adjusts",
    "cause",
    "document",
    "closed_by",
    "recorded_at",
)


class ClickHouseReports:
    """The copy. One writer; what is there says how far it is."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._prepared = False

    def prepare(self) -> None:
        """Create the table and (re)create the views."""
        if self._prepared:
            return
        script = resources.files("storage.clickhouse").joinpath("reports.sql").read_text()
        lines = [line for line in script.splitlines() if not line.startswith("--")]
        for statement in "\n".join(lines).split(";"):
            if statement.strip():
                self._clickhouse.command(statement)
        self._prepared = True

    def position(self) -> int:
        """The last sequence that is there, 0 for none.

        Raises:
            StoreUnavailable: no answer.
        """
        self.prepare()
        found = self._clickhouse.query(POSITION)
        return int(found["last"][0]) if found.height else 0

    def append(self, lines: pl.DataFrame) -> None:
        """Store CLOSED rows as one part; the same rows again change nothing that is read.

        Raises:
            StoreUnavailable: they may be there or not; ask for the position.
        """
        first, last = lines["sequence"][0], lines["sequence"][-1]
        # The same id again is refused while the first one still runs: never two at a time.
        token = f"{TABLE}-{first}-{last}"
        self._clickhouse.insert(TABLE, lines.select(COLUMNS), token=token, query_id=token)
