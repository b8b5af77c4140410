"""What contracts are tested on: each ledger in a small world, and a database of each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from storage.memory.ledger import MemoryLedger
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from storage.sql.database import Database, open_database
from tests.ledger_world import World, catalog, contract, right
from tests.sql import ENGINES, fresh_url


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    folder: Path = tmp_path_factory.mktemp("vk")
    with ValkeyProcess(folder / "v.sock") as process:
        yield process


@pytest.fixture(params=["memory", "valkey"])
async def world(request: pytest.FixtureRequest, valkey: ValkeyProcess) -> AsyncIterator[World]:
    """A customer with 100 hard tokens a month, filled and followed."""
    state = catalog(contract("k", right()))
    if request.param == "memory":
        memory = MemoryLedger()
        made = World(ledger=memory, writer=memory, state=state)
        made.follow()
        yield made
        return
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    writer = RedisLedgerWriter(valkey.url)
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=1.0)
    await ledger.start()
    made = World(ledger=ledger, writer=writer, state=state)
    made.follow()
    await made.refresh()
    yield made
    await ledger.close()
    writer.close()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each engine."""
    with fresh_url(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The same, open."""
    opened = open_database(url)
    yield opened
    opened.close()
