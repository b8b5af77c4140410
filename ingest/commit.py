"""Group commit: many requests share one frame of the log and one fsync.

Groups are strictly one after another. While the fsync of one runs in a thread, the next one
gathers; so the longer a disk takes, the larger the groups get, and no event waits for more than two
of them. The log, the index and the reader are only ever used from the event loop's thread, except
for ``sync``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Protocol, TypeVar

import msgspec
import polars as pl
import pyarrow as pa

from catalog.clock import Micros
from catalog.errors import DomainError, Unavailable
from catalog.events import RecordKind
from ingest.batch import APPENDED, Checked, IngestLimits, to_records
from ingest.group import AtomicRejected, EventsJob, Group, Job, Outcome, RecordsJob, VoidsJob
from ingest.ports import Appended, IdentityIndex, LogUnavailable, RecordLog, RecordReader
from ingest.scan import BodyReader, Plain
from ingest.voids import VoidItem, VoidOutcome

_EVENT_BYTES = 200
"""What an event counts for where a body's events are not known yet."""

_RECORD_BYTES = 512
"""What a record counts for in the queue where its bytes are not known."""

T = TypeVar("T")


class Backpressure(Unavailable):
    """The queue is full: the events were not taken, and may be sent again."""

    code = "backpressure"


class Waiter(Protocol):
    """Who waits for a job: an :class:`asyncio.Future`, or what is told like one."""

    def done(self) -> bool:
        """Whether it does not wait any more."""
        ...

    def set_result(self, result: Any, /) -> None:
        """The outcome of the job. Must not raise."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Why there is no outcome. Must not raise."""
        ...


class _Waiting(msgspec.Struct, eq=False):
    """A job in the queue, and who waits for it."""

    job: Job
    events: int
    size_bytes: int
    done: Waiter

    def answer(self) -> None:
        """Tell whoever still waits what became of the job."""
        if self.done.done():
            return
        outcome = self.job.outcome
        if isinstance(outcome, DomainError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """Tell that nothing is known to have become of it."""
        if not self.done.done():
            self.done.set_exception(error)


class Ingestor:
    """The way into one node's log. Every answer it gives is durable.

    Used from one event loop; a caller that goes away leaves its events in the queue. ``between`` is
    called between two groups, when nobody uses the log (it may roll it). ``synced`` is told, in the
    thread of the fsync, how many seconds each took.
    """

    def __init__(  # noqa: PLR0913  (each is one port)
        self,
        *,
        log: RecordLog,
        index: IdentityIndex,
        reader: RecordReader,
        bodies: BodyReader | None = None,
        limits: IngestLimits | None = None,
        between: Callable[[], object] | None = None,
        synced: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._index = index
        self._reader = reader
        self._bodies = bodies
        self._limits = limits or IngestLimits()
        self._between = between
        self._synced = synced
        self._queue: deque[_Waiting] = deque()
        self._events = 0
        self._size_bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fsync")

    def waiting(self) -> tuple[int, int]:
        """How many events wait to be written, and their bytes."""
        return self._events, self._size_bytes

    def check_room(self) -> None:
        """Refuse early, before a body is read.

        Raises:
            Backpressure: the queue is full.
            LogUnavailable: nothing is taken any more.
        """
        self._check_open()
        limits = self._limits
        if self._events >= limits.queue_events_max or self._size_bytes >= limits.queue_bytes_max:
            raise Backpressure("too many events wait to be written")

    async def submit(
        self, body: Checked | Plain, *, atomic: bool = False, dry_run: bool = False
    ) -> Outcome:
        """Accept a body's events, and return once what was accepted is durable.

        Args:
            body: validated; or plain, to be read with the others of its group.
            atomic: keep nothing unless all events are accepted or duplicates.
            dry_run: keep nothing, and tell what would have become of it.

        Raises:
            AtomicRejected: see ``atomic``.
            EmptyBody, UnreadableBody, TooManyEvents: a plain body was none; nothing of it stands.
            Backpressure: the queue is full; nothing was taken.
            LogUnavailable: whether any of it is durable is unknown. Sending it again is safe.
        """
        self._check_open()
        if isinstance(body, Plain):
            job = EventsJob(plain=body, atomic=atomic, dry_run=dry_run)
            events = _events_in(body)
        else:
            if atomic and body.rejected:
                raise AtomicRejected(body.rejected)
            if not len(body):
                return Outcome(accepted=0, duplicates=0, rejected=body.rejected)
            job, events = EventsJob(checked=body, atomic=atomic, dry_run=dry_run), len(body)
        outcome: Outcome = await self._enqueue(job, events, body.size_bytes)
        return outcome

    def offer(self, body: Plain, waiter: Waiter) -> None:
        """Take a body like :meth:`submit`, and tell ``waiter`` what became of it.

        It is told an :class:`Outcome`, or an error of those that :meth:`submit` raises later.

        Raises:
            Backpressure, LogUnavailable: nothing was taken, and ``waiter`` is not told.
        """
        self.check_room()
        self._put(EventsJob(plain=body), _events_in(body), body.size_bytes, waiter)

    async def append_records(self, records: pl.DataFrame) -> Appended:
        """Append records the service makes (APPENDED columns), durable on return.

        They stay together, in order. An event whose identity is known is left out; where nothing is
        left, ``count`` is 0 and the place is that of the first copy.

        Raises:
            Backpressure, LogUnavailable: see :meth:`submit`.
        """
        return await self._appended(to_records(records))

    async def heartbeat(self) -> Micros:
        """Append a heartbeat; answers its ``received_at``, which the watermark may reach.

        Raises:
            Backpressure, LogUnavailable: see :meth:`submit`.
        """
        return (await self._appended(_heartbeat())).received_at

    async def void(self, items: list[VoidItem]) -> VoidOutcome:
        """Void events that this node accepted within the index's window, durably.

        Raises:
            Backpressure, LogUnavailable: see :meth:`submit`.
        """
        self._check_open()
        job = VoidsJob(items=items)
        outcome: VoidOutcome = await self._enqueue(job, len(items), len(items) * _RECORD_BYTES)
        return outcome

    async def close(self) -> None:
        """Take nothing more, commit what waits, and end. The log stays open."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _appended(self, records: pa.RecordBatch) -> Appended:
        self._check_open()
        size_bytes = records.num_rows * _RECORD_BYTES
        outcome: Appended = await self._enqueue(
            RecordsJob(records=records), records.num_rows, size_bytes
        )
        return outcome

    def _check_open(self) -> None:
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        if self._closing:
            raise LogUnavailable("the log is being closed")

    async def _enqueue(self, job: Job, events: int, size_bytes: int) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._put(job, events, size_bytes, done)
        return await done

    def _put(self, job: Job, events: int, size_bytes: int, waiter: Waiter) -> None:
        limits = self._limits
        over = self._events + events > limits.queue_events_max
        if self._queue and (over or self._size_bytes + size_bytes > limits.queue_bytes_max):
            raise Backpressure("too many events wait to be written")
        self._queue.append(_Waiting(job, events, size_bytes, waiter))
        self._events += events
        self._size_bytes += size_bytes
        self._wake.set()
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="group-commit")

    async def _run(self) -> None:
        while True:
            if self._queue:
                await self._commit(self._take())
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _take(self) -> list[_Waiting]:
        """The next group: whoever waits, up to a limit; a dry run is a group of its own."""
        group = [self._queue.popleft()]
        events, size_bytes = group[0].events, group[0].size_bytes
        while self._queue and not _is_dry(group[-1]) and not _is_dry(self._queue[0]):
            events += self._queue[0].events
            size_bytes += self._queue[0].size_bytes
            limits = self._limits
            if events > limits.group_events_max or size_bytes > limits.group_bytes_max:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self, waiting: list[_Waiting]) -> None:
        """Commit a group and answer it, whatever happens: this task must outlive any error."""
        group = Group(index=self._index, reader=self._reader, bodies=self._bodies)
        try:
            group.add([each.job for each in waiting])
            await self._write(group)
        except Exception as error:  # noqa: BLE001 - each waiter raises it
            for each in waiting:
                each.fail(error)
        except BaseException:
            for each in waiting:
                each.fail(LogUnavailable("the commit was broken off"))
            raise
        else:
            # The next group comes first: its fsync runs while these are answered.
            asyncio.get_running_loop().call_soon(_answer, waiting)
        finally:
            self._events -= sum(each.events for each in waiting)
            self._size_bytes -= sum(each.size_bytes for each in waiting)

    async def _write(self, group: Group) -> None:
        """Make a group durable.

        A domain error is the log's, which knows whether it can go on. Any other leaves log and
        index in doubt, and nothing more is taken.
        """
        records = group.records
        try:
            if records.num_rows:
                appended = self._log.append(records)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._sync)
                group.settle(appended)
            if self._between is not None:
                self._between()
        except DomainError:
            raise
        except Exception as error:
            self._failure = f"the log stopped: {type(error).__name__}: {error}"
            raise LogUnavailable(self._failure) from error

    def _sync(self) -> None:
        began_s = time.perf_counter()
        self._log.sync()
        self._synced(time.perf_counter() - began_s)


@cache
def _heartbeat() -> pa.RecordBatch:
    """Made once: a Polars query for each kept the loop waiting for Polars' threads.

    Not with the module: a process that only forks gateways must not start those threads.
    """
    return to_records(pl.DataFrame([{"kind": RecordKind.HEARTBEAT.value}], schema=APPENDED))


def _answer(waiting: Sequence[_Waiting]) -> None:
    for each in waiting:
        each.answer()


def _events_in(body: Plain) -> int:
    """About how many: they are counted when the body is read."""
    return 1 + body.size_bytes // _EVENT_BYTES


def _is_dry(waiting: _Waiting) -> bool:
    return isinstance(waiting.job, EventsJob) and waiting.job.dry_run
