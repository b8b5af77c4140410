"""The books keep their promises on SQLite and on PostgreSQL, beside others and when killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from catalog.clock import FixedClock, Micros, to_micros
from invoicing.ports import BooksChanged, DocumentKind, Mark
from storage.sql.books import SqlBooks
from storage.sql.books_rows import row_checksum
from storage.sql.database import Database, open_database
from storage.sql.schema import CLOSED_LINES, INVOICES, PERIODS
from tests.closed_lines import document, entry, month, open_lines

EVER = Micros(2**62)
CLOSING = """
import sys
from catalog.clock import FixedClock
from invoicing.ports import BooksChanged
from storage.sql.books import SqlBooks
from storage.sql.database import open_database
from tests.closed_lines import document, entry, month, open_lines
url, name = sys.argv[1], sys.argv[2]
database = open_database(url)
books = SqlBooks(database, FixedClock(1_000 + int(name)))
print("ready", flush=True)
sys.stdin.readline()
for attempt in range(50):
    held = books.month("2026-01")
    if held is not None:
        break
    mark = books.mark()
    try:
        books.close_month(month("2026-01"), open_lines(int(sys.argv[3])), entry(mark, "2026-01"))
    except BooksChanged:
        continue
for attempt in range(200):
    mark = books.mark()  # before looking: what is issued after the look is noticed
    if books.documents(as_of=2**62, ids=["inv~k~20260131~" + "a" * 20]).height:
        break
    try:
        books.issue(document(), open_lines(0), entry(mark))
    except BooksChanged:
        continue
print(books.month("2026-01").body)
print(books.documents(as_of=2**62)["number"].to_list())
database.close()
"""


@pytest.fixture
def books(database: Database) -> SqlBooks:
    """Empty books, at instant 1,000."""
    return SqlBooks(database, FixedClock(1_000))


def named(documents: pl.DataFrame) -> str:
    """The document there is."""
    return str(documents["document"].item())


def test_what_is_closed_is_read_back_as_it_was(books: SqlBooks) -> None:
    """Every column, nulls and awkward text included; the checksum is that of the row."""
    lines = open_lines(5)
    books.close_month(month("2026-01"), lines, entry(books.mark(), "2026-01"))
    closed = books.closed_after(0, limit=10)
    kept = [name for name in lines.columns if name in closed.columns and name != "status"]
    kept = [name for name in kept if name not in {"sequence", "invoice", "invoice_number"}]
    assert closed.select(kept).equals(lines.select(kept))
    assert closed["sequence"].to_list() == [1, 2, 3, 4, 5]
    assert set(closed["status"]) == {"closed"}
    assert set(closed["closed_by"]) == {"2026-01"}
    with books._database.read() as connection:
        rows = connection.execute(sa.select(CLOSED_LINES.c.row, CLOSED_LINES.c.checksum)).all()
    assert [row_checksum(row) for row, _ in rows] == [checksum for _, checksum in rows]
    assert books.closed_after(3, limit=1)["sequence"].to_list() == [4]


def test_a_month_is_closed_once(books: SqlBooks) -> None:
    """The second close writes nothing and answers what the first did."""
    first = books.close_month(month("2026-01"), open_lines(2), entry(books.mark(), "2026-01"))
    again = books.close_month(month("2026-01", lines=9), open_lines(9), entry(books.mark()))
    assert again == first
    assert json.loads(first.body)["status"] == "closed"
    assert books.mark() == Mark(sequence=2, position=0, months=1)


def test_what_was_decided_on_other_books_is_not_kept(books: SqlBooks) -> None:
    """A mark that is not the last one: nothing is written."""
    before = books.mark()
    books.close_month(month("2026-01"), open_lines(2), entry(before, "2026-01"))
    with pytest.raises(BooksChanged):
        books.close_month(month("2026-02"), open_lines(1), entry(before, "2026-02"))
    with pytest.raises(BooksChanged):
        books.issue(document(), open_lines(0), entry(before))
    assert books.mark() == Mark(sequence=2, position=0, months=1)


def test_numbers_are_per_entity_and_kind(books: SqlBooks) -> None:
    """Each series counts from one without gaps."""
    new = pl.concat([document("a", "E1"), document("b", "E2"), document("c", "E1")])
    found = books.issue(new, open_lines(0), entry(books.mark()))
    assert found["number"].to_list() == ["E1-000001", "E2-000001", "E1-000002"]
    more = books.issue(document("d", "E1"), open_lines(0), entry(books.mark()))
    assert more["number"].to_list() == ["E1-000003"]
    assert books.issued_after(1, limit=9)["position"].to_list() == [2, 3, 4]


def test_a_document_stands_until_it_is_taken_back(books: SqlBooks) -> None:
    """Its closed lines name the invoice, then none; as of before, still."""
    first = document("a")
    lines = open_lines(2, named=named(first))
    books.issue(first, lines, entry(books.mark()))
    assert books.lines_of(named(first))["invoice"].to_list() == [named(first)] * 2
    (at,) = books.issued_after(0, limit=1)["recorded_at"]
    note = document("a", kind=DocumentKind.CREDIT_NOTE, taken_back=named(first))
    books.issue(note, open_lines(0), entry(books.mark()))
    assert books.lines_of(named(first))["invoice"].to_list() == [None, None]
    before = books.closed(as_of=to_micros(at))
    assert before["invoice"].to_list() == [named(first)] * 2


@pytest.mark.parametrize("what", ["document", "line", "credit"])
def test_constraints_hold_for_whoever_does_not_ask(books: SqlBooks, what: str) -> None:
    """Even with the right mark nothing is issued, closed or credited twice."""
    first = document("a")
    books.issue(first, open_lines(1, named=named(first)), entry(books.mark()))
    note = document("a", kind=DocumentKind.CREDIT_NOTE, taken_back=named(first))
    books.issue(note, open_lines(0), entry(books.mark()))
    tried: dict[str, Any] = {
        "document": (first, open_lines(0)),
        "line": (first.clear(), open_lines(1)),
        "credit": (
            document("b", kind=DocumentKind.CREDIT_NOTE, taken_back=named(first)),
            open_lines(0),
        ),
    }
    with pytest.raises(sa.exc.IntegrityError):
        books.issue(*tried[what], entry(books.mark()))


@pytest.mark.parametrize("table", [CLOSED_LINES, PERIODS, INVOICES], ids=lambda t: t.name)
def test_nothing_is_changed_or_removed(books: SqlBooks, table: sa.Table) -> None:
    """The tables themselves refuse."""
    books.close_month(month("2026-01"), open_lines(1), entry(books.mark(), "2026-01"))
    books.issue(document(), open_lines(0), entry(books.mark()))
    for statement in (sa.update(table).values(as_of=1), sa.delete(table)):
        with pytest.raises(sa.exc.IntegrityError), books._database.write() as connection:
            connection.execute(statement)


def _processes(url: str, count: int, lines: int) -> list[subprocess.Popen[str]]:
    """Processes that all want to close January and issue the same invoice, waiting for a word."""
    found = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CLOSING, url, str(index), str(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    for process in found:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return found


def _go(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.slow
def test_eight_processes_close_and_issue_once(url: str) -> None:
    """All of them answer the same bytes and the same number."""
    open_database(url).close()
    processes = _processes(url, 8, 40)
    _go(processes)
    answers = [process.communicate(timeout=100) for process in processes]
    assert [errors for _, errors in answers] == [""] * 8
    assert len({told for told, _ in answers}) == 1
    assert answers[0][0].endswith("['INV-000001']\n")
    database = open_database(url)
    assert SqlBooks(database, FixedClock(1)).mark() == Mark(sequence=40, position=1, months=1)
    database.close()


@pytest.mark.slow
def test_a_close_that_is_killed_is_closed_or_not(url: str) -> None:
    """At any instant: all of the month or nothing; the next one finishes it, once."""
    open_database(url).close()
    for pause_s in (0.0, 0.02, 0.08, 0.2, 0.4):
        (process,) = _processes(url, 1, 4_000)
        _go([process])
        time.sleep(pause_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        database = open_database(url)
        mark = SqlBooks(database, FixedClock(1)).mark()
        database.close()
        assert mark.sequence == 4_000 * mark.months
    (process,) = _processes(url, 1, 4_000)
    _go([process])
    told, errors = process.communicate(timeout=100)
    assert errors == ""
    assert told.endswith("['INV-000001']\n")
