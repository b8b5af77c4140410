"""The ledger on the real log: durable consumes race, and balances follow within moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.hot.usage_sink import LogSink
from api.readers.ledger import LedgerReader
from catalog.clock import FixedClock, to_micros
from catalog.ids import NodeId
from entitlements.balances import balance_of
from entitlements.decisions import Decisions
from entitlements.requests import Consume, Reason
from entitlements.schedules import CurrentSchedules
from ingest.commit import Ingestor
from storage.log.follower import LogFollower
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import ACME, START, TOKENS, UNIT, catalog, contract, item, right

NODE = NodeId("n1")


class Service:
    """One gateway's and one worker's halves, in one process, on a real disk and a real Valkey."""

    def __init__(self, directory: Path, server: ValkeyProcess) -> None:
        self.clock = FixedClock(to_micros(START) + 1)
        self.schedules = CurrentSchedules(lambda: STATE)
        self.log = NodeLog.open(directory, node=NODE, clock=self.clock)
        self.index = DiskIdentityIndex.open(self.log.index_directory, self.log)
        self.ingestor = Ingestor(log=self.log, index=self.index, reader=self.log)
        self.ledger = RedisLedger(Address.parse(server.url), timeout_s=1.0)
        self.writer = RedisLedgerWriter(server.url)
        self.tail = LogFollower(directory, NODE)
        self.reader = LedgerReader(
            tails=lambda: {NODE: self.tail},
            schedules=CurrentSchedules(lambda: STATE),
            writer=self.writer,
            clock=self.clock,
        )
        self.decisions = Decisions(
            ledger=self.ledger,
            schedules=self.schedules,
            clock=self.clock,
            sink=LogSink(
                self.ingestor.submit,
                self.ingestor.append_records,
                logged=lambda: self.log.last_received_at,
            ),
        )

    async def consume(self, amount: str, key: str):
        """Ask under the same key until there is a decision: a busy machine may be too slow."""
        request = Consume(customer=ACME, items=(item(TOKENS, amount),), key=key)
        for _ in range(100):
            answer = await self.decisions.consume(request)
            if answer.items[0].reason is not Reason.LEDGER_UNAVAILABLE:
                return answer
            await asyncio.sleep(0.02)
        raise AssertionError(answer)

    async def balance(self):
        account = await self.ledger.account(ACME, now=self.clock.now_us())
        return balance_of(self.schedules(), ACME, TOKENS, account=account, now=self.clock.now_us())

    async def close(self) -> None:
        await asyncio.to_thread(self.reader.stop)
        await self.ingestor.close()
        self.index.close()
        await self.ledger.close()
        self.writer.close()
        self.tail.close()
        self.log.close()


STATE = catalog(contract("k", right(amount="137")))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    with ValkeyProcess(tmp_path / "v.sock") as server:
        made = Service(tmp_path / "n1", server)
        await made.ledger.start()
        made.reader.start()
        for _ in range(300):
            if made.ledger.ready:
                break
            await asyncio.sleep(0.02)
        yield made
        await made.close()


async def test_two_hundred_clients_race_for_137_units(service: Service) -> None:
    """137 are told yes, their 137 events are on disk, and the balance is zero at once."""
    answers = await asyncio.gather(*(service.consume("1", f"k{n}") for n in range(200)))
    assert sum(answer.allowed for answer in answers) == 137
    assert service.tail.durable().seq == 137
    assert await used_is(service, 137) < 1.0
    shown = await service.balance()
    assert (shown.used, shown.held, shown.balance) == (137 * UNIT, 0, 0)


async def test_balances_follow_within_moments(service: Service) -> None:
    """From the answer to the applied usage: milliseconds, not minutes (promised: 50 ms p99)."""
    waits_s = []
    for turn in range(20):
        await service.consume("1", f"k{turn}")
        waits_s.append(await used_is(service, turn + 1))
    # The first quarter: the machine of a test may be busy with others; `make bench` has the p99.
    assert sorted(waits_s)[5] < 0.05


async def used_is(service: Service, units: int) -> float:
    """Seconds until so much is used."""
    began_s = time.perf_counter()
    while (await service.balance()).used != units * UNIT:
        assert time.perf_counter() - began_s < 5
        await asyncio.sleep(0.001)
    return time.perf_counter() - began_s


async def test_a_retry_after_the_hold_was_lost_counts_once(service: Service) -> None:
    """The identity of the event is the key's: the log itself refuses the second copy."""
    first = await service.consume("5", "a")
    await used_is(service, 5)
    with service.writer._client as client:
        client.delete("tallyman:{acme}:key:a")
    again = await service.consume("5", "a")
    await asyncio.sleep(0.1)
    assert first.allowed
    assert (await service.balance()).used == 5 * UNIT, again
