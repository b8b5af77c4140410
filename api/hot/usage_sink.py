"""Usage that decisions record: all of one loop turn in one frame, into the gateway's own log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import polars as pl

from catalog.clock import to_datetime
from catalog.events import RecordKind
from entitlements.ports import SOURCE, LedgerEntry, UsageEvent
from ingest.batch import APPENDED, INCOMING

BATCH_EVENTS_MAX = 5_000


class Refusal(Protocol):
    """One rejected event, by its index in the frame."""

    @property
    def index(self) -> int:
        """Its place in the frame."""
        ...


class Outcome(Protocol):
    """What became of a frame of events."""

    @property
    def rejected(self) -> Sequence[Refusal]:
        """Those that were not kept."""
        ...


Submit = Callable[[pl.DataFrame], Awaitable[Outcome]]
"""Makes INCOMING events durable (``Ingestor.submit``); exact copies count as done."""

Append = Callable[[pl.DataFrame], Awaitable[object]]
"""Makes APPENDED records durable, together (``Ingestor.append_records``)."""


class LogSink:
    """Implements :class:`entitlements.ports.UsageSink` on the gateway's ingest pipeline.

    The events of one call stay in one frame, so they are durable together or not at all; the
    calls of one loop turn share a frame, so they share its cost and its fsync.
    """

    def __init__(self, submit: Submit, append: Append) -> None:
        self._submit = submit
        self._append = append
        self._pending: list[tuple[Sequence[UsageEvent], asyncio.Future[bool]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def record(self, events: Sequence[UsageEvent]) -> bool:
        """See :meth:`entitlements.ports.UsageSink.record`.

        Raises:
            DomainError: the log did not take them (backpressure, log_unavailable).
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        if not self._pending:
            loop.call_soon(self._flush)
        self._pending.append((events, done))
        return await done

    async def append(self, entry: LedgerEntry, events: Sequence[UsageEvent] = ()) -> None:
        """See :meth:`entitlements.ports.UsageSink.append`.

        Raises:
            DomainError: the log did not take them (backpressure, log_unavailable).
        """
        await self._append(_records(entry, events))

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        batch: list[tuple[Sequence[UsageEvent], asyncio.Future[bool]]] = []
        count = 0
        for entry in pending:
            batch.append(entry)
            count += len(entry[0])
            if count >= BATCH_EVENTS_MAX:
                self._start(batch)
                batch, count = [], 0
        if batch:
            self._start(batch)

    def _start(self, batch: list[tuple[Sequence[UsageEvent], asyncio.Future[bool]]]) -> None:
        task = asyncio.create_task(self._record(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, batch: list[tuple[Sequence[UsageEvent], asyncio.Future[bool]]]) -> None:
        try:
            outcome = await self._submit(_frame([one for events, _ in batch for one in events]))
        except BaseException as error:  # noqa: BLE001 - handed to every waiter
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        refused = {refusal.index for refusal in outcome.rejected}
        first = 0
        for events, done in batch:
            if not done.done():
                done.set_result(refused.isdisjoint(range(first, first + len(events))))
            first += len(events)


def _frame(events: Sequence[UsageEvent]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "index": range(len(events)),
            "source": [SOURCE] * len(events),
            "id": [one.id for one in events],
            "type": [one.type for one in events],
            "subject": [one.subject for one in events],
            "time": [to_datetime(one.time) for one in events],
            "time_given": [True] * len(events),
            "data": [one.data for one in events],
        },
        schema=INCOMING,
    )


def _records(entry: LedgerEntry, events: Sequence[UsageEvent]) -> pl.DataFrame:
    """The events, and after them what ends (or begins) the hold they come from."""
    common = {"source": SOURCE, "time_given": True}
    rows = [
        common
        | {"kind": RecordKind.EVENT.value, "id": one.id, "type": one.type, "subject": one.subject}
        | {"time": to_datetime(one.time), "data": one.data}
        for one in events
    ]
    told = {"kind": entry.kind.value, "id": entry.reservation, "subject": entry.customer}
    rows.append(common | told | {"time": to_datetime(entry.time), "data": entry.data})
    return pl.DataFrame(rows, schema=APPENDED)
