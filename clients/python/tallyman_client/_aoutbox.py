"""The buffer behind ``AsyncTallyman.record``, and the task that empties it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tallyman_client._core import Core, logger
from tallyman_client._delivery import Delivery
from tallyman_client._errors import BufferFull, Closed, FlushTimeout, TallymanError
from tallyman_client._wire import AsyncWire


class AsyncOutbox:
    """Takes encoded events at once, sends them from a task of the loop that gave the first one.

    When that task is cancelled (the loop ends) its batch goes back into the buffer.
    """

    def __init__(self, core: Core, wire: AsyncWire, *, closed: bool = False) -> None:
        self._core = core
        self._wire = wire
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = closed

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    async def put(self, event: bytes) -> None:
        """Keep ``event`` until it is sent; waits only for room, and only if so told.

        Raises:
            BufferFull: there is no room (and, if told to wait for some, was none in time).
            Closed: the outbox takes no more.
        """
        fits = self._closed or await self._wait_for_room(event)
        if self._closed:
            raise Closed("the client is closed")
        if not fits:
            self._core.overflow()
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="tallyman-client")
        if self._core.batcher.add(event, time.monotonic()):
            self._wake()

    async def flush(self, timeout_s: float | None) -> None:
        """Send all that was put so far, and wait until every event has an outcome.

        Raises:
            FlushTimeout: not in time; what is left stays on its way.
        """
        batcher = self._core.batcher
        goal = batcher.hurry()
        if batcher.pending and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="tallyman-client")
        self._wake()
        if not await self._until(lambda: batcher.settled >= goal, timeout_s):
            raise FlushTimeout(f"{goal - batcher.settled} events are not delivered yet")

    async def close(self, timeout_s: float) -> None:
        """Take no more, send what is there; what is left after ``timeout_s`` is dropped."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.flush(timeout_s)
        except FlushTimeout as error:
            await self._stop()
            self._core.drop(self._core.batcher.drain(), error)
        await self._stop()

    async def _stop(self) -> None:
        """End the task; what it had under way is in the buffer again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _wait_for_room(self, event: bytes) -> bool:
        """Whether there is room, after waiting if so told; False means to drop the event."""
        batcher, options = self._core.batcher, self._core.options
        if batcher.has_room(event):
            return True
        if options.overflow == "drop":
            return False
        if options.overflow == "block":
            await self._until(lambda: self._closed or batcher.has_room(event), options.block_s_max)
        if self._closed or batcher.has_room(event):
            return True
        raise BufferFull(
            f"{batcher.pending} events ({batcher.pending_bytes} bytes) are waiting to be sent"
        )

    async def _work(self) -> None:
        while (batch := await self._next()) is not None:
            delivery = self._core.delivery(batch)
            try:
                await self._wire.run(self._core.deliver(delivery))
            except asyncio.CancelledError:
                self._put_back(batch, delivery)
                raise
            except Exception as error:  # noqa: BLE001 - later events must still be sent
                logger.exception("sending failed")
                self._core.drop(delivery.abandon(), TallymanError(repr(error)))
            self._core.batcher.settle(batch)
            self._wake()

    def _put_back(self, batch: tuple[bytes, ...], delivery: Delivery) -> None:
        left = delivery.abandon()
        self._core.batcher.restore(left, time.monotonic())
        self._core.batcher.settle(batch[: len(batch) - len(left)])

    async def _next(self) -> tuple[bytes, ...] | None:
        """The next batch when it is due; None when there will be none."""
        batcher = self._core.batcher
        while True:
            batch = batcher.take(time.monotonic())
            if batch is not None or (self._closed and not batcher.pending):
                return batch
            due_s = batcher.due_in(time.monotonic())
            changed = self._changed
            await self._until(changed.is_set, due_s)

    async def _until(self, happened: Callable[[], bool], timeout_s: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not happened():
                    await self._changed.wait()
        except TimeoutError:
            return happened()
        return True

    def _wake(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()
