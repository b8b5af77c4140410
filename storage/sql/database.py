"""One door to SQLite and PostgreSQL: how to connect, read, write and migrate.

Writers are serialised on both engines (``BEGIN IMMEDIATE``; a transaction-scoped advisory lock),
so code inside :meth:`Database.write` may read the last row and insert the next one.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from catalog.errors import DomainError, Unavailable

BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 30_000
POOL_SIZE = 5
POOL_OVERFLOW = 15
WAL_ATTEMPTS = 200
WAL_PAUSE_S = 0.02
WRITE_OPTION = "tallyman_write"
# Any constant does; it names "writing Tallyman's tables" among a database's advisory locks.
ADVISORY_LOCK = 0x7A11_7A11
# A server whose machine is gone sends nothing, not even an end: without these a call would wait
# for it for a quarter of an hour, an idle connection for two.
GONE_AFTER = {
    "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}

_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic keeps its current context in module globals: one migration at a time per process.
_migrating = threading.Lock()


class DatabaseTooNew(DomainError):
    """The database was written by a newer Tallyman; this one would misread it."""

    code = "database_too_new"


class DatabaseUnavailable(Unavailable):
    """The SQL database cannot be reached or stayed busy; whether a write was kept is unknown."""

    code = "database_unavailable"


class Database:
    """An open, migrated database. Thread-safe; each call takes a connection from the pool."""

    def __init__(self, engine: Engine) -> None:
        self._readers = engine
        self._writers = engine.execution_options(**{WRITE_OPTION: True})
        self._exclusive = engine.dialect.name == "postgresql"

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._readers.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one committed state and is rolled back at the end.

        Raises:
            DatabaseUnavailable: the database is down or answered too late.
        """
        with _translated(), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction no other writer runs beside, in any process; committed at the end.

        Raises:
            DatabaseUnavailable: as for :meth:`read`, or another writer held on for too long.
        """
        with _translated(), self._writers.begin() as connection:
            if self._exclusive:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            yield connection

    def close(self) -> None:
        """Close the pooled connections. The object may not be used afterwards."""
        self._readers.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn a driver's "not now" into an error that callers of the service understand."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise _unavailable(getattr(error, "orig", None) or error) from error


def _unavailable(reason: BaseException) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"the SQL database cannot answer: {str(reason).strip()}")


def open_database(url: str) -> Database:
    """Connect, bring the schema up to date, and return the database.

    Several processes may open the same one at once: the first migrates, the others wait.
    SQLite's parent directory must exist.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…`` (``postgresql://`` means the same).

    Raises:
        DatabaseTooNew: it holds a schema this code does not know. Nothing was changed.
        DatabaseUnavailable: it cannot be reached.
    """
    target = _normal(url)
    engine = _sqlite(target) if target.get_backend_name() == "sqlite" else _postgres(target)
    database = Database(engine)
    try:
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _normal(url: str) -> URL:
    """``url`` with the driver this package is written for."""
    target = make_url(url.replace("postgres://", "postgresql://", 1))
    if target.get_backend_name() == "postgresql":
        return target.set(drivername="postgresql+psycopg")
    if target.get_backend_name() == "sqlite":
        return target.set(drivername="sqlite+pysqlite")
    raise ValueError(f"neither SQLite nor PostgreSQL: {target.get_backend_name()}")


def _postgres(url: URL) -> Engine:
    """An engine whose every wait has a bound; a connection that died is replaced unseen."""
    timeouts = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={BUSY_TIMEOUT_MS}"
    return sa.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
        pool_pre_ping=True,
        # A waiting writer must see, once it is let in, what the one before it committed.
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": timeouts} | GONE_AFTER,
    )


def _sqlite(url: URL) -> Engine:
    """An engine that begins transactions itself: the driver would begin them too late."""
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: several processes read it")
    _use_wal(url.database)
    engine = sa.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        # FULL: a commit that was answered survives a power cut (NORMAL may lose it in WAL mode).
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(WRITE_OPTION, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _use_wal(path: str) -> None:
    """Switch the file to write-ahead logging, which it then remembers.

    The switch needs the file alone and ignores the busy timeout, so it is retried for a while.
    """
    for _ in range(WAL_ATTEMPTS):
        try:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise _unavailable(error) from error
            time.sleep(WAL_PAUSE_S)
        else:
            return
    raise DatabaseUnavailable(f"{path} is locked by another process")


def _migrate(database: Database) -> None:
    """Run the missing migrations in one transaction that excludes other processes."""
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS.as_posix().replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _migrating, database.write() as connection:
        found = set(MigrationContext.configure(connection).get_current_heads())
        if found - known:
            raise DatabaseTooNew(
                f"the database has schema {', '.join(sorted(found))}, "
                "which this version of Tallyman does not know; run the version that wrote it"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
