"""What decisions record shares frames, and a retry on its way is the same record."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import polars as pl
import pytest

from api.hot.usage_sink import LogSink
from catalog.events import RecordKind
from catalog.ids import CustomerId
from entitlements.ports import LedgerEntry, UsageEvent
from ingest.batch import APPENDED, Checked
from ingest.group import AtomicRejected


@dataclass
class Refusal:
    index: int


@dataclass
class Outcome:
    rejected: list[Refusal] = field(default_factory=list)


class Pipeline:
    """Keeps what it is given, once it is let."""

    def __init__(self) -> None:
        self.bodies: list[Checked] = []
        self.frames: list[pl.DataFrame] = []
        self.go = asyncio.Event()
        self.go.set()
        self.refuse: set[str] = set()
        self.broken: Exception | None = None

    async def submit(self, body: Checked, *, atomic: bool) -> Outcome:
        await self.go.wait()
        self.bodies.append(body)
        refused = [
            n for n, name in enumerate(body.records["id"].to_pylist()) if name in self.refuse
        ]
        if atomic and refused:
            raise AtomicRejected([])
        return Outcome([Refusal(index=n) for n in refused])

    async def append(self, records: pl.DataFrame) -> None:
        await self.go.wait()
        if self.broken is not None:
            raise self.broken
        assert records.schema == APPENDED
        self.frames.append(records)


def event(name: str) -> UsageEvent:
    return UsageEvent(id=name, type="llm", subject="acme", time=1_000_000, data='{"n":1}')


def settle(name: str) -> LedgerEntry:
    return LedgerEntry(
        kind=RecordKind.SETTLE, reservation=name, customer=CustomerId("acme"), time=5, data="{}"
    )


async def test_settles_of_one_turn_share_a_frame() -> None:
    """Fifty settles are one append: each one's events, then its end."""
    pipeline = Pipeline()
    sink = LogSink(pipeline.submit, pipeline.append, logged=lambda: 0)
    await asyncio.gather(*(sink.append(settle(f"r{n}"), [event(f"r{n}.0")]) for n in range(50)))
    [frame] = pipeline.frames
    wanted = [name for n in range(50) for name in (f"r{n}.0", f"r{n}")]
    assert frame["id"].to_list() == wanted
    assert frame["kind"].to_list() == [RecordKind.EVENT.value, RecordKind.SETTLE.value] * 50
    assert frame["time"].to_physical().to_list() == [1_000_000, 5] * 50


async def test_a_settle_on_its_way_is_not_written_twice() -> None:
    """Retries while the first is being written wait for it, also when the first caller leaves."""
    pipeline = Pipeline()
    sink = LogSink(pipeline.submit, pipeline.append, logged=lambda: 0)
    pipeline.go.clear()
    first = asyncio.create_task(sink.append(settle("r"), [event("r.0")]))
    await asyncio.sleep(0.01)
    retry = asyncio.create_task(sink.append(settle("r"), [event("r.0")]))
    await asyncio.sleep(0.01)
    first.cancel()
    pipeline.go.set()
    await retry
    assert [frame.height for frame in pipeline.frames] == [2]
    await sink.append(settle("r"), [event("r.0")])
    assert len(pipeline.frames) == 2, "later the log itself knows"


async def test_refusals_find_whose_they_are() -> None:
    """Of many consumes only the one whose identity is taken is told so, all of it."""
    pipeline = Pipeline()
    sink = LogSink(pipeline.submit, pipeline.append, logged=lambda: 0)
    pipeline.refuse = {"b.1"}
    calls = [[event("a")], [event("b.0"), event("b.1")], [event("c")]]
    assert await asyncio.gather(*map(sink.record, calls)) == [True, False, True]
    assert [len(body) for body in pipeline.bodies] == [2, 2]


async def test_a_broken_log_is_told_to_everyone() -> None:
    """The error reaches each caller of the turn, and the next turn is tried anew."""
    pipeline = Pipeline()
    sink = LogSink(pipeline.submit, pipeline.append, logged=lambda: 0)
    pipeline.broken = OSError("disk")
    told = await asyncio.gather(
        *(sink.append(settle(f"r{n}")) for n in range(3)), return_exceptions=True
    )
    assert [type(one) for one in told] == [OSError] * 3
    pipeline.broken = None
    await sink.append(settle("r0"))
    assert len(pipeline.frames) == 1
    with pytest.raises(OSError, match="disk"):
        raise told[0]
