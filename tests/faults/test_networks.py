"""PostgreSQL, ClickHouse and Redis by URL, each behind a network that fails in every way."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from storage.redis.valkey import ValkeyProcess
from tests.clickhouse_front import front
from tests.e2e.harness import Service, end_service, start_service, wait_for
from tests.e2e.test_kills import CATALOG, SANDBOX, Load, check_books
from tests.fault_proxy import FaultProxy, PortProxy
from tests.postgres import fresh_database

FAULT_S = 0.6


def _delay(proxy: FaultProxy) -> None:
    proxy.delay_s = 0.3


def _reset(proxy: FaultProxy) -> None:
    proxy.cut()


def _black_hole(proxy: FaultProxy) -> None:
    proxy.swallow = True


def _answers_lost(proxy: FaultProxy) -> None:
    proxy.mute = True


FAULTS: tuple[Callable[[FaultProxy], None], ...] = (_delay, _reset, _black_hole, _answers_lost)


def heal(proxy: FaultProxy) -> None:
    """All is well again; connections on which something was lost are gone."""
    broken = proxy.swallow or proxy.mute
    proxy.swallow = proxy.mute = False
    proxy.delay_s = 0.0
    if broken:
        proxy.cut()


@contextmanager
def network(*proxies: FaultProxy) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Run the proxies on a loop of their own; answers how to do something there."""
    loop, open_, close = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            for proxy in proxies:
                await stack.enter_async_context(proxy)
            open_.set()
            await close.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert open_.wait(10)
        yield loop.call_soon_threadsafe
    finally:
        loop.call_soon_threadsafe(close.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory with a short name (unix sockets)."""
    made = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_engine_behind_a_network_that_fails(parent: Path) -> None:
    """Slow, reset, black hole, answers lost, each in turn: ingest goes on, the books agree."""
    with ExitStack() as stack:
        clickhouse = stack.enter_context(front(parent / "chdb"))
        postgres = make_url(stack.enter_context(fresh_database()))
        valkey = stack.enter_context(ValkeyProcess(parent / "v.sock"))
        directory = Path(str(postgres.query["host"]))
        proxies = {
            "sql": PortProxy(next(directory.glob(".s.PGSQL.*[0-9]"))),
            "clickhouse": PortProxy(int(clickhouse.url.rpartition(":")[2])),
            "redis": FaultProxy(parent / "p.sock", valkey.socket_path),
        }
        soon = stack.enter_context(network(*proxies.values()))
        sql, http = proxies["sql"], proxies["clickhouse"]
        assert isinstance(sql, PortProxy)
        assert isinstance(http, PortProxy)
        behind = postgres.set(host="127.0.0.1", port=sql.port, query={})
        settings = {
            "sql_url": behind.render_as_string(hide_password=False),
            "clickhouse_url": f"http://127.0.0.1:{http.port}",
            "redis_url": f"unix://{parent / 'p.sock'}",
        }
        service = start_service(parent / "d", *SANDBOX, settings=settings)
        try:
            service.wait_ready()
            service.post("/v1/catalog", {"document": CATALOG})
            try_all(service, proxies, soon)
        finally:
            end_service(service)


def try_all(
    service: Service, proxies: dict[str, FaultProxy], soon: Callable[[Callable[[], None]], None]
) -> None:
    """Each fault of each engine under load, healed before the next; then the books."""
    load = Load(random.Random(1))
    load.aim(service)
    load.start()
    try:
        for name, proxy in proxies.items():
            for fault in FAULTS:
                soon(lambda fault=fault, proxy=proxy: fault(proxy))
                before = load.books.events
                wait_for(
                    lambda before=before: load.books.events > before,
                    what=f"an event taken during {fault.__name__} of {name}",
                    within_s=10,
                    explain=service.explain,
                )
                time.sleep(FAULT_S)
                soon(lambda proxy=proxy: heal(proxy))
                time.sleep(0.1)
        service.wait_ready()
    finally:
        load.stop()
    service.wait_ready()
    settle(service)
    check_books(service, load.books)


def settle(service: Service) -> None:
    """Wait until totals can be asked for: a reader that failed takes a pause first."""
    wait_for(
        lambda: service.client.get("/v1/totals", params={"period": "2026-01"}).is_success,
        what="caught up",
        within_s=60,
        explain=service.explain,
    )
