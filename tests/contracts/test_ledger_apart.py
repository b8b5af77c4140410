"""The ledger's reader in a process of its own: it follows, dies, comes back and never stays behind.

The process is the real one, on a real log and a real Valkey; only the worker around it is missing.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from api.apart import ledger as apart
from api.apart.ledger import LedgerApart
from api.apart.messages import Copies
from api.datadir import prepare_data
from api.editing import Editor
from api.models.catalog import ApplyRequest
from api.readers.base import Tail
from api.readers.tails import LogTails, gateways_on_disk
from api.service import sql_url
from api.settings import Settings, child_environment
from catalog.clock import Micros
from catalog.errors import Unavailable
from catalog.events import RecordKind
from catalog.ids import CustomerId, NodeId
from ingest.batch import APPENDED, to_records
from storage.copies.names import compensations_node
from storage.log.node_log import NodeLog
from storage.redis.scripts import STATE
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from storage.sql.database import open_database
from storage.sql.statements import StatementStore
from tests.catalogs import tokens_document
from tests.e2e.harness import is_alive

NODE, ACME = NodeId("n1"), CustomerId("acme")
CATALOG = tokens_document()


class Site:
    """A data directory with a catalog, one gateway's log, and the worker's end of the reader."""

    def __init__(self, data: Path, server: ValkeyProcess) -> None:
        data.mkdir()
        self.settings = Settings(data=data, redis_url=server.url, log_level="warning")
        self.clock = prepare_data(self.settings, lambda _: None)
        database = open_database(sql_url(self.settings))
        statements = StatementStore(database, self.clock, self.settings.zone)
        Editor(statements, clock=self.clock).apply(ApplyRequest(document=CATALOG), actor=None)
        database.close()
        nodes = data / "nodes"
        self.log = NodeLog.open(nodes / NODE, node=NODE, clock=self.clock)
        self.copies = Copies(node=compensations_node([], prefix=NODE), through=Micros(0))
        self.writer = RedisLedgerWriter(server.url)
        self.apart = LedgerApart(
            tails=LogTails(nodes, lambda: gateways_on_disk(nodes)),
            copies=lambda: self.copies,
            environment=child_environment(self.settings),
        )

    def use(self, n: int) -> None:
        """Write one event to the log, durably."""
        row = dict.fromkeys(APPENDED) | {
            "kind": RecordKind.EVENT.value,
            "source": "app",
            "id": f"e{self.log.next_seq}",
            "type": "llm",
            "subject": "acme",
            "data": f'{{"n":{n}}}',
            "time": datetime.now(UTC),
        }
        self.log.append(to_records(pl.DataFrame([row], schema=APPENDED)))
        self.log.sync()

    def used(self) -> int:
        """What the ledger has counted."""
        self.writer.positions()
        (account,) = self.writer.accounts([ACME])
        return sum(total for _, total in (account.totals if account else {}).items()) // 10**9

    def level(self) -> bool:
        """Whether the reader says that it is level with the log."""
        return self.apart.positions().get(NODE) == self.log.next_seq - 1

    def close(self) -> None:
        self.apart.stop()
        self.writer.close()
        self.log.close()


@pytest.fixture
def site() -> Iterator[Site]:
    # Not pytest's tmp_path: its names are too long for unix sockets.
    with tempfile.TemporaryDirectory(prefix="tm-", dir="/tmp") as directory:
        home = Path(directory)
        with ValkeyProcess(home / "v.sock") as server:
            made = Site(home / "d", server)
            yield made
            made.close()


def until(happened: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_it_follows_and_is_asked_like_a_reader_here(site: Site) -> None:
    """Positions, failures, recounts and rebuilds are those of the process."""
    site.use(3)
    assert "not started" in str(site.apart.failure)
    site.apart.start()
    until(site.level)
    site.use(4)
    until(lambda: site.used() == 7)

    assert site.apart.failure is None
    assert site.apart.reach() == {NODE: 2}
    assert site.apart.recount() == []
    site.writer._client.flushall()
    until(lambda: site.used() == 7)


def test_a_rebuild_that_was_asked_for_is_seen_as_such_at_once(site: Site) -> None:
    """Nobody who asks for a rebuild is told the positions from before it."""
    site.use(5)
    site.apart.start()
    until(site.level)
    site.apart.request_rebuild()

    assert site.apart.positions() == {}
    until(site.level)
    assert site.used() == 5


def following(site: Site) -> int:
    """Start it with one unit used, and wait until that is followed; the process."""
    site.use(1)
    site.apart.start()
    until(site.level)
    pid = site.apart.pid
    assert pid is not None
    return pid


def test_a_killed_process_comes_back_where_the_ledger_is(site: Site) -> None:
    """It is said so meanwhile, whoever asked is told, and what was written meanwhile counts."""
    pid = following(site)
    os.kill(pid, signal.SIGKILL)
    until(lambda: "ended with -9" in str(site.apart.failure))
    with pytest.raises(Unavailable):
        site.apart.recount()
    site.use(2)
    until(lambda: site.used() == 3)

    until(lambda: site.apart.failure is None)
    assert site.apart.pid != pid
    assert site.apart.recount() == []


def test_a_rebuild_asked_for_while_it_is_away_is_made(site: Site) -> None:
    """What is asked of nobody is kept for the process that comes."""
    site.use(1)
    site.apart.start()
    until(site.level)
    began, pid = site.writer._client.hget(STATE, "epoch"), site.apart.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: "ended with -9" in str(site.apart.failure))
    site.apart.request_rebuild()
    assert site.apart.positions() == {}

    until(site.level)
    assert site.writer._client.hget(STATE, "epoch") != began
    assert site.used() == 1


def test_a_process_that_hangs_is_named_and_killed_at_the_end(site: Site) -> None:
    """The end of the worker does not wait for longer than the worker is waited for."""
    site.apart.start()
    until(lambda: site.apart.failure is None)
    pid = site.apart.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    site.apart.stop()

    assert time.monotonic() - began_s < 5
    assert not is_alive(pid)


def test_a_process_that_hangs_is_killed_in_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one goes on, and whoever waited for an answer is told."""
    monkeypatch.setattr(apart, "HUNG_S", 2.0)
    pid = following(site)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Unavailable):
        site.apart.recount()
    site.use(2)
    until(lambda: site.used() == 3)
    assert not is_alive(pid)


def test_what_fails_in_the_worker_does_not_end_it(site: Site) -> None:
    """No descriptor left to measure by, and twice no process to be had: it goes on after that."""
    site.use(1)
    site.apart.start()
    until(site.level)
    failing = [OSError(errno.EMFILE, "no descriptor")] + 2 * [BlockingIOError("no process")]
    tails, started = site.apart._tails, site.apart._started

    def followed() -> Mapping[NodeId, Tail]:
        if len(failing) == 3:
            raise failing.pop(0)
        return tails()

    def begun(descriptor: int) -> subprocess.Popen[bytes]:
        if failing:
            raise failing.pop()
        return started(descriptor)

    site.apart._tails, site.apart._started = followed, begun  # type: ignore[method-assign]
    pid = site.apart.pid
    assert pid is not None
    until(lambda: len(failing) == 2)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: "no process" in str(site.apart.failure))
    site.use(2)
    until(lambda: site.used() == 3)
    until(lambda: site.apart.failure is None)


ORPHAN = """
import os, sys, time
from multiprocessing import Pipe
import subprocess
ours, theirs = Pipe()
child = subprocess.Popen([sys.executable, "-m", "api.apart.child", str(theirs.fileno()),
                          str(os.getpid())], pass_fds=[theirs.fileno()])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_does_not_outlive_whoever_started_it() -> None:
    """Even where nobody closes its connection in order, and before it was told anything."""
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    until(lambda: not is_alive(pid), within_s=10)
