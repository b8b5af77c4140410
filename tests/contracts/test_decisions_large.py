"""Decisions that record much: never more in one piece than the log takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.hot import usage_sink
from api.hot.usage_sink import LogSink
from catalog.clock import FixedClock, Micros, to_micros
from catalog.errors import InvalidRequest
from catalog.ids import NodeId
from entitlements.ports import UsageEvent
from entitlements.requests import Consume
from ingest.commit import Ingestor
from storage.log import frames
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from storage.memory.ledger import MemoryLedger
from tests.ledger_world import ACME, CALLS, START, World, catalog, contract, item, right, soft

NOW = to_micros(START) + 1


def consume_of(number: int, size: int) -> list[UsageEvent]:
    """The one event of a consume."""
    data = f'{{"note":"{"x" * size}"}}'
    return [
        UsageEvent(id=f"h{number}", type="llm", subject="acme", time=Micros(NOW), data=data),
    ]


async def test_a_group_larger_than_a_frame_is_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one frame it was refused by the log, which then took nothing more at all."""
    monkeypatch.setattr(frames, "PAYLOAD_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(usage_sink, "PART_BYTES_MAX", 1 << 18, raising=False)
    log = NodeLog.open(tmp_path, node=NodeId("n1"), clock=FixedClock(NOW))
    index = DiskIdentityIndex.open(log.index_directory, log)
    ingestor = Ingestor(log=log, index=index, reader=log)
    ingestor._limits = type(ingestor._limits)(group_bytes_max=1 << 19)
    sink = LogSink(ingestor.submit, ingestor.append_records, logged=lambda: log.last_received_at)
    many = [consume_of(number, 16_000) for number in range(100)]
    assert await sink.record_all(many) == [True] * 100
    assert await sink.record(consume_of(3, 16_000)), "a copy"
    assert await sink.record_all([consume_of(3, 9), consume_of(100, 9)]) == [False, True]
    await ingestor.close()
    index.close()
    log.close()


def test_a_consume_that_would_record_too_much_is_refused() -> None:
    """A hundred items of a thousand calls with 16 kB of data were 1.6 GB of events."""
    memory = MemoryLedger()
    rights = soft(right(CALLS, "5"))
    world = World(ledger=memory, writer=memory, state=catalog(contract("k", rights)))
    world.follow()
    data = {"note": "x" * 15_000}
    for count, fits in ((1, True), (2, False)):
        items = [item(CALLS, "1000")] * count
        request = Consume(customer=ACME, items=items, key=f"k{count}", data=data)
        if fits:
            assert world.decisions.ask_consume(request).demand.hold is not None
        else:
            with pytest.raises(InvalidRequest, match="bytes in all"):
                world.decisions.ask_consume(request)
