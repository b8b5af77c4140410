"""The processes of ``docker-compose.yml`` on one machine, each killed and restarted under load.

Two gateways, a worker, ClickHouse over HTTP, Valkey and PostgreSQL, each a process with an address.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engines import Engines, running_engines
from tests.e2e.harness import Service, end_service, start_service, wait_for
from tests.e2e.test_kills import CATALOG, SANDBOX, Load, check_books

DOWN_S = 1.0
"""How long an engine is away: longer than any retry of a single call hides."""

UP_S = 0.5
PARTS = ("api.gateway n1", "api.gateway n2", "api.worker")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory (unix sockets)."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def engines() -> Iterator[Engines]:
    """ClickHouse's front, PostgreSQL and Valkey, fresh."""
    with running_engines() as running:
        yield running


def kill_part(service: Service, part: str) -> None:
    """SIGKILL to a process of the service; the supervisor starts it again."""
    (victim,) = service.pids(part)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: service.pids(part) not in ([], [victim]), what=f"{part} back", within_s=60)


def kill_engine(engines: Engines, name: str) -> None:
    """Kill an engine, leave it away for a while, and start it again."""
    engine = engines.by_name()[name]
    engine.kill()
    time.sleep(DOWN_S)
    engine.start()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_process_is_killed_under_load(engines: Engines, home: Path) -> None:
    """Whatever is killed: all acknowledged counts once, no limit is passed, verify agrees."""
    service = start_service(home, *SANDBOX, "--gateways", "2", settings=engines.settings)
    load = Load(random.Random(20_260_131))
    try:
        service.wait_ready()
        service.post("/v1/catalog", {"document": CATALOG})
        load.aim(service)
        load.start()
        for victim in (*PARTS, *engines.by_name()):
            time.sleep(UP_S)
            before = load.books.events
            if victim in PARTS:
                kill_part(service, victim)
            else:
                kill_engine(engines, victim)
            service.wait_ready()
            wait_for(lambda n=before: load.books.events > n, what="ingest", within_s=60)
        load.stop()
        service.wait_ready()
        check_books(service, load.books)
        assert load.books.retries > 0, "no request was ever hit by a kill"
    finally:
        load._stop.set()
        end_service(service)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clickhouse", "postgres", "valkey"])
def test_ingest_goes_on_without_an_engine(engines: Engines, home: Path, name: str) -> None:
    """What is away is not needed to acknowledge events; /readyz says what is missing."""
    service = start_service(home, *SANDBOX, "--gateways", "2", settings=engines.settings)
    try:
        service.wait_ready()
        service.post("/v1/catalog", {"document": CATALOG})
        engines.by_name()[name].kill()
        event = {"source": "t", "type": "used", "subject": "c0", "data": {"units": 2}}
        posted = [{**event, "id": f"{number}"} for number in range(10)]
        assert service.post("/v1/events", posted)["accepted"] == 10
        engines.by_name()[name].start()
        service.wait_ready()
        (row,) = service.get("/v1/totals", period="2026-01", customer="c0")["items"]
        assert row["quantity"] == "20"
    finally:
        end_service(service)
