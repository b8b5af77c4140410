"""What decisions record: all of one loop turn in one job, into the gateway's own log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from catalog.clock import Micros
from catalog.errors import DomainError
from catalog.events import RecordKind
from entitlements.ports import SOURCE, LedgerEntry, UsageEvent
from ingest.batch import APPENDED, Checked, Columns
from ingest.group import AtomicRejected

TURN_MAX = 2_000
"""Decisions in one job at most: the rest of the turn is the next one's."""

PART_BYTES_MAX = 32 * 1024**2
"""And so many bytes, unless a single one has more."""

_EVENT_BYTES = 512
_STORED = {**APPENDED, "time": pl.Int64()}


class Refusal(Protocol):
    """One rejected event, by its index in the body."""

    @property
    def index(self) -> int:
        """Its place in the body."""
        ...


class Outcome(Protocol):
    """What became of a body of events."""

    @property
    def rejected(self) -> Sequence[Refusal]:
        """Those that were not kept."""
        ...


class Submit(Protocol):
    """Makes events durable (``Ingestor.submit``); exact copies count as done."""

    def __call__(self, body: Checked, *, atomic: bool) -> Awaitable[Outcome]:
        """``atomic``: where one is refused none is kept, and :class:`AtomicRejected` says so."""
        ...


Append = Callable[[pl.DataFrame], Awaitable[object]]
"""Makes APPENDED records durable, together (``Ingestor.append_records``)."""

Entry = tuple[LedgerEntry, Sequence[UsageEvent]]
Kept = bool | DomainError
"""Whether the events of one call are in the log, or why the log did not take them."""

T = TypeVar("T")
R = TypeVar("R")


class _Turn(Generic[T, R]):
    """Gathers what is asked for in one turn of the event loop, and does it at once."""

    def __init__(self, do: Callable[[list[T]], Awaitable[Sequence[R]]]) -> None:
        self._do = do
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, what: T) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((what, done))
        return done

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), TURN_MAX):
            task = asyncio.create_task(self._run(waiting[first : first + TURN_MAX]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, waiting: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._do([what for what, _ in waiting])
        except BaseException as error:  # noqa: BLE001 - handed to every waiter
            for _, done in waiting:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), result in zip(waiting, results, strict=True):
            if not done.done():
                done.set_result(result)


class LogSink:
    """Implements :class:`entitlements.ports.UsageSink` on the gateway's ingest pipeline.

    What one call records stays in one frame, so it is durable together or not at all; the calls
    of one loop turn share a frame, so they share its cost and its fsync.
    """

    def __init__(self, submit: Submit, append: Append, *, logged: Callable[[], Micros]) -> None:
        self._submit = submit
        self._append = append
        self._logged = logged
        self._events: _Turn[Sequence[UsageEvent], Kept] = _Turn(self._record_all)
        self._entries: _Turn[Entry, None] = _Turn(self._append_all)
        self._under_way: dict[tuple[RecordKind, str], asyncio.Future[None]] = {}

    @property
    def logged(self) -> Micros:
        """See :meth:`entitlements.ports.UsageSink.logged`."""
        return self._logged()

    async def record(self, events: Sequence[UsageEvent]) -> bool:
        """See :meth:`entitlements.ports.UsageSink.record`.

        Raises:
            DomainError: the log did not take them (backpressure, log_unavailable).
        """
        kept = await self._events.ask(events)
        if isinstance(kept, DomainError):
            raise kept
        return kept

    async def record_all(self, many: Sequence[Sequence[UsageEvent]]) -> list[Kept]:
        """See :meth:`entitlements.ports.UsageSink.record_all`."""
        return await self._record_all(many)

    async def append(self, entry: LedgerEntry, events: Sequence[UsageEvent] = ()) -> None:
        """See :meth:`entitlements.ports.UsageSink.append`.

        A retry while the same entry is on its way waits for that one: the log leaves out copies
        of events it knows, and of those it is just writing it knows none.

        Raises:
            DomainError: the log did not take them (backpressure, log_unavailable).
        """
        key = (entry.kind, entry.reservation)
        known = self._under_way.get(key)
        if known is None:
            known = self._entries.ask((entry, events))
            self._under_way[key] = known
            known.add_done_callback(lambda _: self._under_way.pop(key))
        await asyncio.shield(known)  # who goes away does not take the others' answer along

    async def _record_all(self, asked: Sequence[Sequence[UsageEvent]]) -> list[Kept]:
        """One body for all calls of one event each, and one for every call of several.

        Of a body the log keeps what it can. Where it knows some events of a call otherwise the
        call is denied, and the rest of it must not be kept: so that is kept whole or not at all.
        """
        single = [at for at, events in enumerate(asked) if len(events) == 1]
        several = [at for at, events in enumerate(asked) if len(events) > 1]
        parts = _parts(single, lambda at: _size_bytes(asked[at])) if single else []
        bodies = [*parts, *([at] for at in several)]
        calls = ([asked[at] for at in places] for places in bodies)
        told = await asyncio.gather(*map(self._record_body, calls))
        results: list[Kept] = [True] * len(asked)
        for places, kept in zip(bodies, told, strict=True):
            for at, each in zip(places, kept, strict=True):
                results[at] = each
        return results

    async def _record_body(self, calls: Sequence[Sequence[UsageEvent]]) -> Sequence[Kept]:
        """Record calls of one event each, or a single call."""
        body = _checked([one for events in calls for one in events])
        try:
            outcome = await self._submit(body, atomic=len(calls) == 1)
        except AtomicRejected:
            return [False]
        except DomainError as error:
            return [error] * len(calls)
        refused = {refusal.index for refusal in outcome.rejected}
        return [at not in refused for at in range(len(calls))]

    async def _append_all(self, entries: list[Entry]) -> list[None]:
        for part in _parts(entries, lambda entry: _size_bytes(entry[1])):
            await self._append(_records(part))
        return [None] * len(entries)


def _parts(asked: Sequence[T], size_bytes: Callable[[T], int]) -> list[list[T]]:
    """Cut where it gets large: what is in one piece of the log has a limit, and ends the log."""
    parts: list[list[T]] = [[]]
    size = 0
    for each in asked:
        more = size_bytes(each)
        if parts[-1] and size + more > PART_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(each)
        size += more
    return parts


def _size_bytes(events: Sequence[UsageEvent]) -> int:
    return sum([len(one.data) for one in events]) + _EVENT_BYTES * len(events)


def _checked(events: Sequence[UsageEvent]) -> Checked:
    """Events as the pipeline takes them: made from the catalog, there is nothing to check."""
    columns = Columns(
        index=range(len(events)),
        source=[SOURCE] * len(events),
        id=[one.id for one in events],
        type=[one.type for one in events],
        subject=[one.subject for one in events],
        time=[one.time for one in events],
        data=[one.data for one in events],
    )
    return Checked(
        records=columns.records(),
        index=range(len(events)),
        rejected=[],
        size_bytes=_size_bytes(events),
    )


def _records(entries: Sequence[Entry]) -> pl.DataFrame:
    """Each entry's events, and after them what ends (or begins) the hold they come from."""
    rows: list[tuple[Any, ...]] = []
    for entry, events in entries:
        rows += [
            (RecordKind.EVENT.value, SOURCE, e.id, e.type, e.subject, e.time, True, e.data, None)
            for e in events
        ]
        name = (entry.kind.value, SOURCE, entry.reservation, None, entry.customer)
        rows.append((*name, entry.time, True, entry.data, None))
    columns = dict(zip(_STORED, zip(*rows, strict=True), strict=True))
    return pl.DataFrame(columns, schema=_STORED).cast(APPENDED)
