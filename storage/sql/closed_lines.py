"""Reading closed lines and issued documents from SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from catalog.clock import EVER
from invoicing.closed import CLOSED, DOCUMENTS
from rating.frames import LINES_ORDER
from storage.sql.bulk import texts
from storage.sql.closed_rows import BESIDE, closed_frame, documents_frame
from storage.sql.database import Database
from storage.sql.schema import CLOSED_LINES, INVOICES

_ISSUED = INVOICES.alias("issued")
_CREDIT = INVOICES.alias("credit")
_COMMA: sa.ColumnElement[str] = sa.literal_column("','", sa.Text)
_NOTHING: sa.ColumnElement[str] = sa.literal_column("''", sa.Text)


def standing(as_of: int = EVER) -> sa.Select[Any]:
    """The invoices that stood at ``as_of``: issued and not taken back. At most one a document."""
    taken_back = sa.exists().where(
        _CREDIT.c.credits == _ISSUED.c.id, _CREDIT.c.recorded_at <= as_of
    )
    columns = (_ISSUED.c.document, _ISSUED.c.id, _ISSUED.c.number)
    known = (_ISSUED.c.kind == "invoice") & (_ISSUED.c.recorded_at <= as_of)
    return sa.select(*columns).where(known, ~taken_back)


def selected_lines(as_of: int = EVER) -> sa.Select[Any]:
    """Closed lines as :func:`closed_frame` takes them, with the invoices of ``as_of``.

    A line is one text, put together by the engine: a million of them are a million objects here,
    not fourteen.
    """
    live = standing(as_of).subquery("live")
    named = {"invoice": live.c.id, "invoice_number": live.c.number}
    text: sa.ColumnElement[str] = CLOSED_LINES.c.row
    for name in reversed(BESIDE):
        column = named.get(name, CLOSED_LINES.c.get(name))
        assert column is not None
        text = sa.func.coalesce(sa.cast(column, sa.Text), _NOTHING) + _COMMA + text
    joined = CLOSED_LINES.outerjoin(live, live.c.document == CLOSED_LINES.c.document)
    return sa.select(text).select_from(joined)


class SqlClosedLines:
    """:class:`invoicing.closed.ClosedLines` over the catalog's database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def closed_after(self, sequence: int, *, limit: int) -> pl.DataFrame:
        """CLOSED with greater sequences, at most ``limit`` rows, in order of sequence."""
        later = selected_lines().where(CLOSED_LINES.c.sequence > sequence)
        return self._lines(later.order_by(CLOSED_LINES.c.sequence).limit(limit))

    def issued_after(self, position: int, *, limit: int) -> pl.DataFrame:
        """DOCUMENTS with greater positions, at most ``limit`` rows, in order of position."""
        query = sa.select(*(INVOICES.c[name] for name in DOCUMENTS))
        later = query.where(INVOICES.c.position > position).order_by(INVOICES.c.position)
        return documents_frame(self._rows(later.limit(limit)))

    def lines_issued(self, after: int, *, upto: int) -> pl.DataFrame:
        """CLOSED of the documents at positions in ``(after, upto]``, each line once."""
        place = INVOICES.c.position
        documents = sa.select(INVOICES.c.document).where(place > after, place <= upto)
        query = selected_lines().where(CLOSED_LINES.c.document.in_(documents))
        return self._lines(query).sort(*LINES_ORDER, nulls_last=False)

    def lines_of(self, *documents: str) -> pl.DataFrame:
        """CLOSED of a page of documents, in the order of LINES_ORDER; empty: none is closed."""
        query = selected_lines().where(CLOSED_LINES.c.document.in_(documents))
        return self._lines(query).sort(*LINES_ORDER, nulls_last=False)

    def line(self, line_id: str) -> pl.DataFrame:
        """CLOSED of one line, an adjustment or not; empty while it is open."""
        return self._lines(selected_lines().where(CLOSED_LINES.c.line_id == line_id))

    def _lines(self, query: sa.Select[Any]) -> pl.DataFrame:
        """CLOSED of :func:`selected_lines`, read and parsed a batch at a time."""
        with self._database.read() as connection:
            parts = [closed_frame(batch) for batch in texts(connection, query)]
        return pl.concat([CLOSED.to_frame(), *parts])

    def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._database.read() as connection:
            return connection.execute(query).all()
