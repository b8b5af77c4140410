"""What reports ask of the books beside the lines themselves."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from storage.sql.closed_lines import standing
from storage.sql.database import Database
from storage.sql.schema import CLOSED_LINES


class SqlReports:
    """Reads only. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def invoiced(self, *, since: date, until: date) -> frozenset[str]:
        """The closed lines on invoices that stand now, by id.

        Of those with accounting dates in ``[since, until)``.
        """
        live = standing().subquery("live")
        query = (
            sa.select(CLOSED_LINES.c.line_id)
            .join(live, live.c.document == CLOSED_LINES.c.document)
            .where(
                CLOSED_LINES.c.accounting_date >= since.isoformat(),
                CLOSED_LINES.c.accounting_date < until.isoformat(),
            )
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())
