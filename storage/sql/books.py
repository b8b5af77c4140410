"""The books in SQL: closed lines, closed months, issued documents. Appended to, never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa

from catalog.clock import EVER, Clock, Micros
from invoicing.closed import DOCUMENTS
from invoicing.ports import (
    BooksChanged,
    BooksState,
    ClosedMonth,
    Entry,
    Mark,
    NewMonth,
)
from storage.sql.audit import record_changes
from storage.sql.books_rows import (
    closed_rows,
    document_change,
    document_rows,
    month_change,
    month_of,
    month_row,
)
from storage.sql.bulk import append_frame
from storage.sql.closed_lines import SqlClosedLines, selected_lines
from storage.sql.closed_rows import documents_frame, typed_documents
from storage.sql.database import Database
from storage.sql.schema import CLOSED_LINES, INVOICES, PERIODS

NAMES_MAX = 500
"""More names than these are looked for in everything read: no engine takes any number of them."""
PAGE_ROWS = 10_000


class SqlBooks(SqlClosedLines):
    """:class:`invoicing.ports.Books` over the catalog's database. Thread-safe.

    What is written together is one transaction, in which nobody else writes; a number is the last
    one plus one inside it, and a constraint holds for whoever does not keep to that.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database)
        self._database = database
        self._clock = clock

    def mark(self) -> Mark:
        """How much there is now."""
        with self._database.read() as connection:
            return _mark(connection)

    def state(self, *, as_of: Micros) -> BooksState:
        """What was closed by ``as_of``."""
        months = sa.select(PERIODS).where(PERIODS.c.recorded_at <= as_of).order_by(PERIODS.c.month)
        first = sa.select(sa.func.min(INVOICES.c.as_of)).where(INVOICES.c.recorded_at <= as_of)
        with self._database.read() as connection:
            rows = connection.execute(months).mappings().all()
            issued = connection.execute(first).scalar_one()
        return BooksState(
            months=tuple(month_of(row) for row in rows),
            first_issue=None if issued is None else Micros(issued),
        )

    def month(self, month: str) -> ClosedMonth | None:
        """A closed month; null while it is open."""
        with self._database.read() as connection:
            return _closed_month(connection, month)

    def closed(
        self,
        *,
        as_of: Micros,
        since: date | None = None,
        until: date | None = None,
        contracts: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """CLOSED recorded by ``as_of``, with accounting dates in ``[since, until)``."""
        table = CLOSED_LINES.c
        query = selected_lines(as_of).where(table.recorded_at <= as_of)
        query = _dated(query, table.accounting_date, since, until)
        few = contracts is not None and len(contracts) <= NAMES_MAX
        if contracts is not None and few:
            query = query.where(table.contract.in_(sorted(contracts)))
        found = self._lines(query.order_by(table.sequence))
        if contracts is None or few:
            return found
        return found.filter(_among("contract", contracts))

    def issued(self, *, as_of: Micros, since: date | None = None) -> frozenset[str]:
        """Documents ever issued by ``as_of``, voided ones too, that count on ``since`` or later."""
        query = sa.select(INVOICES.c.document).where(INVOICES.c.recorded_at <= as_of).distinct()
        dated = _dated(query, INVOICES.c.accounting_date, since, None)
        with self._database.read() as connection:
            return frozenset(connection.execute(dated).scalars())

    def documents(
        self,
        *,
        as_of: Micros = EVER,
        since: date | None = None,
        until: date | None = None,
        ids: Collection[str] | None = None,
        documents: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """DOCUMENTS recorded by ``as_of``, narrowed by accounting date, id or document."""
        table = INVOICES.c
        query = sa.select(*(table[name] for name in DOCUMENTS)).where(table.recorded_at <= as_of)
        query = _dated(query, table.accounting_date, since, until)
        for column, names in ((table.id, ids), (table.document, documents)):
            if names is not None and len(names) <= NAMES_MAX:
                query = query.where(column.in_(sorted(names)))
        found = documents_frame(self._rows(query.order_by(table.position)))
        for name, names in (("id", ids), ("document", documents)):
            if names is not None:
                found = found.filter(
                    pl.col(name).is_in(pl.Series(list(names), dtype=pl.String).implode())
                )
        return found

    def raw_lines(self) -> Iterator[tuple[int, str, str]]:
        """Sequence, CSV row and checksum of every closed line as stored, in order."""
        table = CLOSED_LINES.c
        query = sa.select(table.sequence, table.row, table.checksum).order_by(table.sequence)
        with self._database.read() as connection:
            for found in connection.execute(query).yield_per(PAGE_ROWS):
                yield found[0], found[1], found[2]

    def close_month(self, new: NewMonth, lines: pl.DataFrame, entry: Entry) -> ClosedMonth:
        """Append ``lines`` and the month, as one; a closed month is answered as it is."""
        with self._database.write() as connection:
            held = _closed_month(connection, new.month)
            if held is not None:
                return held
            mark = _unchanged(connection, entry)
            recorded_at = self._instant(connection, entry)
            sequence = _append(connection, lines, mark, entry, recorded_at)
            row = month_row(new, entry, recorded_at=recorded_at, sequence=sequence)
            connection.execute(sa.insert(PERIODS).values(row))
            record_changes(connection, [month_change(row)], actor=entry.actor, at=recorded_at)
            return month_of(row)

    def issue(self, new: pl.DataFrame, lines: pl.DataFrame, entry: Entry) -> pl.DataFrame:
        """Append ``lines`` and the documents (NEW_DOCUMENTS), as one; answers DOCUMENTS."""
        with self._database.write() as connection:
            mark = _unchanged(connection, entry)
            recorded_at = self._instant(connection, entry)
            _append(connection, lines, mark, entry, recorded_at)
            last = _ordinals(connection)
            rows = document_rows(new, last, entry, after=mark.position, recorded_at=recorded_at)
            append_frame(connection, INVOICES, rows)
            changes = map(document_change, rows.iter_rows(named=True))
            record_changes(connection, changes, actor=entry.actor, at=recorded_at)
        return typed_documents(rows)

    def _instant(self, connection: sa.Connection, entry: Entry) -> Micros:
        """Now, but later than all that was recorded or answered before."""
        tables = (CLOSED_LINES, INVOICES, PERIODS)
        last = [
            connection.execute(sa.select(sa.func.max(table.c.recorded_at))).scalar_one() or 0
            for table in tables
        ]
        return Micros(
            max(self._clock.now_us(), entry.after + 1, entry.as_of, *(n + 1 for n in last))
        )


def _among(name: str, names: Collection[str]) -> pl.Expr:
    return pl.col(name).is_in(pl.Series(list(names), dtype=pl.String()).implode())


def _mark(connection: sa.Connection) -> Mark:
    def one(column: sa.ColumnElement[Any]) -> int:
        return int(connection.execute(sa.select(column)).scalar_one() or 0)

    return Mark(
        sequence=one(sa.func.max(CLOSED_LINES.c.sequence)),
        position=one(sa.func.max(INVOICES.c.position)),
        months=one(sa.func.count(PERIODS.c.month)),
    )


def _unchanged(connection: sa.Connection, entry: Entry) -> Mark:
    mark = _mark(connection)
    if mark != entry.mark:
        raise BooksChanged("something was closed or issued in the meantime; try again")
    return mark


def _closed_month(connection: sa.Connection, month: str) -> ClosedMonth | None:
    query = sa.select(PERIODS).where(PERIODS.c.month == month)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else month_of(row)


def _append(
    connection: sa.Connection, lines: pl.DataFrame, mark: Mark, entry: Entry, recorded_at: Micros
) -> int:
    """Append ``lines``; answers the last sequence."""
    rows = closed_rows(lines, entry, after=mark.sequence, recorded_at=recorded_at)
    append_frame(connection, CLOSED_LINES, rows)
    return mark.sequence + rows.height


def _ordinals(connection: sa.Connection) -> pl.DataFrame:
    """The last number given, by entity and kind."""
    columns = (INVOICES.c.entity, INVOICES.c.kind)
    query = sa.select(*columns, sa.func.max(INVOICES.c.ordinal)).group_by(*columns)
    found = [tuple(row) for row in connection.execute(query)]
    schema = {"entity": pl.String, "kind": pl.String, "last": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row")


def _dated(
    query: sa.Select[Any], column: sa.ColumnElement[str], since: date | None, until: date | None
) -> sa.Select[Any]:
    """Days are kept as ISO text, which sorts as they do."""
    if since is not None:
        query = query.where(column >= since.isoformat())
    if until is not None:
        query = query.where(column < until.isoformat())
    return query
