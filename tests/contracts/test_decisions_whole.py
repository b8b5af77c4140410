"""A call's events are in the log all or none: of a denied call there is nothing to count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.hot.usage_sink import LogSink
from api.readers.ledger import LedgerReader
from catalog.clock import FixedClock, to_micros
from catalog.errors import DomainError
from catalog.events import RecordKind
from catalog.ids import NodeId
from entitlements.decisions import Decisions
from entitlements.ports import UsageEvent
from entitlements.requests import Consume, Decision, Reason
from entitlements.schedules import CurrentSchedules
from ingest.commit import Ingestor
from storage.log.follower import LogFollower
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import ACME, CALLS, START, catalog, contract, item, right, soft

NODE = NodeId("n1")
NOW = to_micros(START) + 1
HARD, SOFT = right(CALLS, "50"), soft(right(CALLS, "50"))


class Written:
    """A node's log on disk, and the sink of decisions in front of it."""

    def __init__(self, directory: Path) -> None:
        self.clock = FixedClock(NOW)
        self.log = NodeLog.open(directory, node=NODE, clock=self.clock)
        self.index = DiskIdentityIndex.open(self.log.index_directory, self.log)
        self.ingestor = Ingestor(log=self.log, index=self.index, reader=self.log)
        self.tail = LogFollower(directory, NODE)
        self.sink = LogSink(
            self.ingestor.submit,
            self.ingestor.append_records,
            logged=lambda: self.log.last_received_at,
        )

    def events(self) -> list[str]:
        """The ids of the events in the log, in its order."""
        found, seq = list[str](), 0
        while (records := self.tail.read_after(seq, rows_max=1_000)).height:
            found += records.filter(pl.col("kind") == RecordKind.EVENT.value)["id"].to_list()
            seq = int(records["seq"][-1])
        return found

    async def close(self) -> None:
        """Release it."""
        await self.ingestor.close()
        self.tail.close()
        self.index.close()
        self.log.close()


@asynccontextmanager
async def written(directory: Path) -> AsyncIterator[Written]:
    """A log to write to."""
    made = Written(directory)
    try:
        yield made
    finally:
        await made.close()


class Gateway:
    """One gateway's decisions on a real log and a real Valkey, followed by a real reader."""

    def __init__(self, log: Written, server: ValkeyProcess, *, hard: bool) -> None:
        state = catalog(contract("k", HARD if hard else SOFT))
        schedules = CurrentSchedules(lambda: state)
        self.log = log
        self.ledger = RedisLedger(Address.parse(server.url), timeout_s=1.0)
        self.writer = RedisLedgerWriter(server.url)
        self.reader = LedgerReader(
            tails=lambda: {NODE: log.tail},
            schedules=schedules,
            writer=self.writer,
            clock=log.clock,
        )
        self.decisions = Decisions(
            ledger=self.ledger,
            schedules=schedules,
            clock=log.clock,
            sink=log.sink,
            allowed_without_ledger=frozenset([CALLS] if hard else []),
        )

    async def ready(self) -> None:
        """Until the reader has filled the ledger."""
        await self.ledger.start()
        self.reader.start()
        for _ in range(500):
            if self.ledger.ready:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the ledger was never filled")

    async def close(self) -> None:
        """Release it."""
        await asyncio.to_thread(self.reader.stop)
        await self.ledger.close()
        self.writer.close()


def asked(*amounts: str, key: str = "k") -> Consume:
    """So many calls, under a key."""
    return Consume(customer=ACME, items=tuple(item(CALLS, one) for one in amounts), key=key)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """A server of its own, to be killed."""
    with ValkeyProcess(tmp_path / "v.sock") as server:
        yield server


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "fails open"])
@pytest.mark.parametrize("later_us", [0, 5_000_000])
async def test_a_denied_call_leaves_nothing_while_the_ledger_is_away(
    tmp_path: Path, valkey: ValkeyProcess, hard: bool, later_us: int
) -> None:
    """A key is used for two calls, the ledger goes, and it is used for more: none of them count."""
    async with written(tmp_path / "n1") as log:
        gateway = Gateway(log, valkey, hard=hard)
        try:
            await gateway.ready()
            first = await gateway.decisions.consume(asked("2"))
            assert first.allowed
            assert len(log.events()) == 2
            valkey.kill()
            log.clock.set(NOW + later_us)
            for amounts in (("5",), ("2", "3"), ("1",)):
                [alone] = await denied(gateway, [asked(*amounts)])
                assert alone.items[0].reason is Reason.RECOVERING
                assert len(log.events()) == 2, amounts
            beside = await gateway.decisions.consume_all(
                [
                    gateway.decisions.ask_consume(one)
                    for one in (asked("4"), asked("3", key="other"))
                ]
            )
            assert [each.allowed for each in beside if isinstance(each, Decision)] == [False, True]
            assert len(log.events()) == 5, "who came along is kept, whole"
        finally:
            await gateway.close()


async def denied(gateway: Gateway, requests: Sequence[Consume]) -> list[Decision]:
    """What each is answered by itself; all are denials."""
    answers = [await gateway.decisions.consume(one) for one in requests]
    assert not any(each.allowed for each in answers)
    return answers


def call_of(key: int, count: int, at: int) -> list[UsageEvent]:
    """The events of a call, as a consume makes them: the last one has the key's own id."""
    return [
        UsageEvent(
            id=f"h{key}" if place == count - 1 else f"h{key}.{place}",
            type="call",
            subject="acme",
            time=NOW + at,
            data=f'{{"mark":{count}}}' if place == count - 1 else "{}",
        )
        for place in range(count)
    ]


CALL = st.builds(
    call_of,
    st.integers(min_value=0, max_value=4),
    st.integers(min_value=1, max_value=5),
    st.integers(min_value=0, max_value=1),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns=st.lists(st.lists(CALL, min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_log_holds_exactly_what_was_answered_yes(
    tmp_path_factory: pytest.TempPathFactory, turns: list[list[list[UsageEvent]]]
) -> None:
    """Whatever keys are used again, beside each other or later: whole calls, each event once."""

    async def run() -> None:
        async with written(tmp_path_factory.mktemp("log") / "n1") as log:
            allowed = set[str]()
            for calls in turns:
                for call, kept in zip(calls, await log.sink.record_all(calls), strict=True):
                    assert not isinstance(kept, DomainError)
                    allowed |= {one.id for one in call} if kept else set()
            assert sorted(log.events()) == sorted(allowed)

    asyncio.run(run())
