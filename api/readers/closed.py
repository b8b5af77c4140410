"""Closed lines copied to ClickHouse, for BI tools."""

from __future__ import annotations

from api.readers.base import Pace, Reader
from catalog.ids import NodeId, Seq
from invoicing.closed import ClosedLines
from storage.clickhouse.reports import ClickHouseReports


class ClosedLinesReader(Reader):
    """Copies what was closed since the last row that is there."""

    def __init__(
        self, *, closed: ClosedLines, reports: ClickHouseReports, pace: Pace | None = None
    ) -> None:
        pace = pace or Pace(poll_s=2.0)
        super().__init__(name="closed_lines", tails=dict, pace=pace)
        self._closed = closed
        self._reports = reports

    def step(self) -> bool:
        """Copy one stretch; false when there is none."""
        lines = self._closed.closed_after(self._reports.position(), limit=self.pace.rows_max)
        if lines.is_empty():
            return False
        self._reports.append(lines)
        return True

    def positions(self) -> dict[NodeId, Seq]:
        """None: it follows the books, not a node's log."""
        return {}
