"""The buffer behind ``Tallyman.record``, and the thread that empties it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from tallyman_client._core import Core, logger
from tallyman_client._delivery import Delivery
from tallyman_client._errors import BufferFull, Closed, FlushTimeout, TallymanError
from tallyman_client._wire import Wire


class _Aborted(Exception):
    """The outbox has given up on everything: pauses end."""


class Outbox:
    """Takes encoded events at once, sends them from a thread that starts with the first event."""

    def __init__(self, core: Core, wire: Wire, *, closed: bool = False) -> None:
        self._core = core
        self._wire = wire
        self._changed = threading.Condition()
        self._aborted = threading.Event()
        self._thread: threading.Thread | None = None
        self._delivery: Delivery | None = None
        self._closed = closed

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def put(self, event: bytes) -> None:
        """Keep ``event`` until it is sent.

        Raises:
            BufferFull: there is no room (and, if told to wait for some, was none in time).
            Closed: the outbox takes no more.
        """
        with self._changed:
            fits = self._closed or self._wait_for_room(event)
            if self._closed:
                raise Closed("the client is closed")
            if not fits:
                self._core.overflow()
                return
            if self._thread is None:
                self._thread = self._started()
            if self._core.batcher.add(event, time.monotonic()):
                self._changed.notify_all()

    def flush(self, timeout_s: float | None) -> None:
        """Send all that was put so far, and wait until every event has an outcome.

        Raises:
            FlushTimeout: not in time; what is left stays on its way.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("flush() in a hook would wait for itself")
        batcher = self._core.batcher
        with self._changed:
            goal = batcher.hurry()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: batcher.settled >= goal, timeout_s):
                raise FlushTimeout(f"{goal - batcher.settled} events are not delivered yet")

    def close(self, timeout_s: float) -> None:
        """Take no more, send what is there; what is left after ``timeout_s`` is dropped."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._core.batcher.hurry()
            self._changed.notify_all()
        try:
            self.flush(timeout_s)
        except FlushTimeout as error:
            self._give_up(error)

    def _give_up(self, error: FlushTimeout) -> None:
        self._aborted.set()
        with self._changed:
            left = self._core.batcher.drain()
            delivery = self._delivery
        under_way = () if delivery is None else delivery.abandon()
        self._core.drop(under_way + left, error)

    def _wait_for_room(self, event: bytes) -> bool:
        """Whether there is room, after waiting if so told; False means to drop the event."""
        batcher, options = self._core.batcher, self._core.options
        if batcher.has_room(event):
            return True
        if options.overflow == "drop":
            return False
        is_hook = threading.current_thread() is self._thread
        if options.overflow == "block" and not is_hook:
            self._changed.wait_for(
                lambda: self._closed or batcher.has_room(event), options.block_s_max
            )
        if self._closed or batcher.has_room(event):
            return True
        raise BufferFull(
            f"{batcher.pending} events ({batcher.pending_bytes} bytes) are waiting to be sent"
        )

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="tallyman-client", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while (delivery := self._next()) is not None:
            batch = delivery.remaining()
            try:
                self._wire.run(self._core.deliver(delivery), self._pause)
            except _Aborted:
                return
            except Exception as error:  # noqa: BLE001 - later events must still be sent
                logger.exception("sending failed")
                self._core.drop(delivery.abandon(), TallymanError(repr(error)))
            with self._changed:
                self._delivery = None
                self._core.batcher.settle(batch)
                self._changed.notify_all()

    def _next(self) -> Delivery | None:
        """The next batch when it is due; None when there will be none."""
        batcher = self._core.batcher
        with self._changed:
            while True:
                batch = batcher.take(time.monotonic())
                if batch is not None:
                    self._delivery = self._core.delivery(batch)
                    return self._delivery
                if self._closed:
                    return None
                self._changed.wait(batcher.due_in(time.monotonic()))

    def _pause(self, seconds: float) -> None:
        if self._aborted.wait(seconds):
            raise _Aborted


def drain(core: Core, wire: Wire, *, timeout_s: float) -> None:
    """Send all that is buffered from this very thread: for when no other can be started."""
    deadline = time.monotonic() + timeout_s
    core.batcher.hurry()
    while (batch := core.batcher.take(time.monotonic())) is not None:
        left_s = max(0.001, deadline - time.monotonic())
        usual = core.options.delivery
        retry = replace(
            usual,
            attempt_s_max=min(left_s, usual.attempt_s_max),
            total_s_max=min(left_s, usual.total_s_max),
        )
        wire.run(core.deliver(core.delivery(batch), retry))
        core.batcher.settle(batch)
