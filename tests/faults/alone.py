"""A node alone: a data directory, its gateway without the rest of the service, and its log.

Ingest needs nothing else. So faults can be tried by the hundred: a start is a fork, and the log
is read back with the log's own reader when nobody has it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import polars as pl

from api.datadir import ServiceLock, prepare_data
from api.service import ensure_first_key, listen
from api.settings import Settings
from catalog.events import RecordKind
from catalog.ids import NodeId
from storage.clock import SystemClock
from storage.log.files import OsFiles
from storage.log.frames import Damage, LogCorrupt
from storage.log.home import LogLimits
from storage.log.hot import HotFile
from storage.log.layout import read_layout
from storage.log.node_log import NodeLog
from tests.e2e.harness import wait_for
from tests.faults.zygote import Zygote

NODE = NodeId("n1")
KEY = secrets.token_hex(20)
READ_ROWS = 1 << 16
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass
class Alone:
    """One node's data directory and its gateway. Several may share a listener."""

    data: Path
    zygote: Zygote
    listener: socket.socket
    settings: dict[str, str] = field(default_factory=dict)
    pid: int = 0

    def prepare(self, sandbox_now: datetime | None = None) -> None:
        """Make the directory as ``tallyman serve`` does, for a sandbox if its time is given."""
        settings = Settings(
            data=self.data, admin_key=KEY, sandbox=sandbox_now is not None, now=sandbox_now
        )
        if sandbox_now is not None:
            self.settings["sandbox"] = "true"
        with ServiceLock(self.data):
            ensure_first_key(settings, prepare_data(settings, lambda _: None))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.listener.getsockname()[:2]
        return host, port

    @property
    def directory(self) -> Path:
        """Where its log is."""
        return self.data / "nodes" / NODE

    @property
    def log(self) -> Path:
        """What its processes write."""
        return self.data.with_name(f"{self.data.name}.log")

    def environment(self) -> dict[str, str]:
        """What its gateway is told."""
        told = {
            "data": str(self.data),
            "log_level": "warning",
            "heartbeat_ms": "1000",  # what notices that a log is broken, too
            "log__hot_bytes_max": "65536",
        }
        return {f"TALLYMAN_{k.upper()}": v for k, v in (told | self.settings).items()}

    def start(self, *, stopped: bool = False) -> int:
        """Start its gateway; answers the pid. It may still be opening its log."""
        self.pid = self.zygote.fork(
            "gateway",
            NODE,
            str(self.listener.fileno()),
            environment=self.environment(),
            log=self.log,
            stopped=stopped,
        )
        return self.pid

    def start_sealer(self, *, stopped: bool = False) -> int:
        """Start a process that seals closed hot files as the worker does."""
        return self.zygote.fork(
            "sealer", str(self.directory), NODE, environment={}, log=self.log, stopped=stopped
        )

    def kill(self, pid: int | None = None) -> None:
        """SIGKILL, and wait until it is gone."""
        victim = pid or self.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self.await_end(victim)

    def await_end(self, pid: int | None = None, *, within_s: float = 10) -> None:
        """Wait until a process of it is gone, with all its threads: one still holds the lock."""
        process = Path(f"/proc/{pid or self.pid}")
        wait_for(
            lambda: not process.exists(),
            what=f"{process} gone",
            within_s=within_s,
            explain=self.said,
        )

    def said(self) -> str:
        """The end of what its processes wrote."""
        return self.log.read_text(errors="replace")[-4_000:] if self.log.exists() else ""

    def events(self) -> pl.DataFrame:
        """Every event of its log, ``id`` and ``data``; recovers the log, so nobody may have it."""
        return read_events(self.directory)


def is_torn(directory: Path) -> bool:
    """Whether the newest hot file ends with something that is no frame. Changes nothing."""
    layout = read_layout(directory, files=OsFiles())
    if not layout.hots:
        return False
    try:
        hot = HotFile.open(directory, first_seq=layout.hots[-1], node=NODE, files=OsFiles())
    except LogCorrupt:
        return True  # not even its header is whole
    try:
        hot.walk(hot.size())
    except Damage:
        return True
    finally:
        hot.close()
    return False


def read_events(directory: Path) -> pl.DataFrame:
    """Every event of the log in ``directory``: columns seq, source, id, data."""
    log = NodeLog.open(directory, node=NODE, clock=SystemClock(), limits=LogLimits())
    try:
        parts, seq = [], 0
        while (records := log.read_after(seq, rows_max=READ_ROWS)).height:
            assert records["seq"][0] == seq + 1, f"record {seq + 1} is missing"
            assert records["received_at"].is_sorted(), "time went back"
            seq = records["seq"][-1]
            wanted = records.filter(pl.col("kind") == RecordKind.EVENT)
            parts.append(wanted.select("seq", "source", "id", "data"))
    finally:
        log.close()
    none = {"seq": pl.Int64, "source": pl.String, "id": pl.String, "data": pl.String}
    return pl.concat(parts) if parts else pl.DataFrame(schema=none)


class Place:
    """Where nodes are made: one zygote, one port for them and another for their copies."""

    def __init__(
        self, parent: Path, zygote: Zygote, listener: socket.socket, spare: socket.socket
    ) -> None:
        self.parent = parent
        self._zygote = zygote
        self._listener = listener
        self._spare = spare
        self._numbers = itertools.count()

    def fresh(
        self,
        *,
        inside: Path | None = None,
        settings: Mapping[str, str] = NOTHING,
        sandbox_now: datetime | None = None,
    ) -> Alone:
        """A prepared node in a fresh directory, inside a directory of one's own if one is given."""
        data = (inside or self.parent) / f"d{next(self._numbers)}"
        made = Alone(data, self._zygote, self._listener, dict(settings))
        made.prepare(sandbox_now)
        return made

    def at(self, data: Path) -> Alone:
        """The node whose data directory is already there, on the other port."""
        return Alone(data, self._zygote, self._spare)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A fresh place; everything in it is ended and removed at the end."""
    # Not pytest's tmp_path: its names are too long for unix sockets.
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    listener, spare = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    try:
        with Zygote(listener.fileno(), spare.fileno()) as zygote:
            yield Place(parent, zygote, listener, spare)
    finally:
        listener.close()
        spare.close()
        shutil.rmtree(parent, ignore_errors=True)
