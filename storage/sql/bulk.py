"""Many rows at once, in and out of a table, by the shortest way each engine has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import sqlalchemy as sa

BATCH_ROWS = 50_000
"""Rows a statement: each has the engine's time-out to itself, and memory for so many is enough."""

SQLITE_CACHE_KIB = 65_536
"""Pages of five indexes that grow at once: with the usual 2 MB they are written again and again."""


def append_frame(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """Insert ``rows``, whose columns are those of ``table`` by name, inside the transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: a constraint refuses a row; the transaction is lost.
    """
    copies = connection.dialect.name == "postgresql"
    write = _copied if copies else _inserted
    if not copies:
        connection.exec_driver_sql(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
    for batch in rows.iter_slices(BATCH_ROWS):
        write(connection, table, batch)
    if not copies:
        connection.exec_driver_sql("PRAGMA cache_size=-2000")


def texts(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[list[str]]:
    """The one column of ``query``, a batch at a time: never all of it at once."""
    streamed = connection.execution_options(yield_per=BATCH_ROWS)
    for batch in streamed.execute(query).scalars().partitions():
        yield list(batch)


def _inserted(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """SQLite: one prepared statement, tuples as they are."""
    marks = ", ".join("?" * rows.width)
    columns = ", ".join(_quoted(rows.columns))
    statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608
    connection.exec_driver_sql(statement, rows.rows())


def _copied(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """PostgreSQL: COPY, in which an empty cell is null and a quoted one is empty text."""
    columns = ", ".join(_quoted(rows.columns))
    statement = f'COPY "{table.name}" ({columns}) FROM STDIN (FORMAT csv)'
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows.write_csv(include_header=False, quote_style="necessary"))
    except connection.dialect.loaded_dbapi.Error as error:
        raise sa.exc.DBAPIError.instance(
            statement,
            None,
            error,
            connection.dialect.loaded_dbapi.Error,
            dialect=connection.dialect,
        ) from error


def _quoted(names: list[str]) -> list[str]:
    """Column names of ours (``row`` is a word of SQL)."""
    return [f'"{name}"' for name in names]
