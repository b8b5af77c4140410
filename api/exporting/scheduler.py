"""The worker's thread that runs destinations by their schedules, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from api.exporting.exports import Exports
from catalog.clock import SECOND_US, Clock

log = structlog.get_logger(__name__)

MINUTE_US = 60 * SECOND_US
AT_ONCE_MAX = 4


class ExportScheduler:
    """Looks every second what is due; a slow destination keeps no other one waiting.

    What it failed to do is recorded with the runs and tried again; it remembers nothing itself,
    so that a restart loses nothing.
    """

    def __init__(self, exports: Exports, clock: Clock, *, poll_s: float = 1.0) -> None:
        self._exports = exports
        self._clock = clock
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="export")
        self._busy: dict[str, Future[None]] = {}
        self._looked: dict[str, int] = {}
        self.failure: str | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="exports", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Begin no delivery any more."""
        self._stop.set()
        self._exports.stopping.set()

    def stop(self) -> None:
        """End after the deliveries under way; what is left waits for the next start."""
        self.end()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def look(self) -> None:
        """Begin a turn of every destination that has none under way."""
        for export in self._exports.names():
            if export not in self._busy or self._busy[export].done():
                self._busy[export] = self._pool.submit(self._guarded, self._turn, export)

    def _loop(self) -> None:
        while not self._stop.wait(self._poll_s):
            self._guarded(lambda _: self.look(), "")

    def _guarded(self, step: Callable[[str], None], export: str) -> None:
        try:
            step(export)
        except Exception as error:  # noqa: BLE001  (one destination must not end the others)
            self.failure = f"{type(error).__name__}: {error}"
            log.warning("export_not_run", export=export, error=self.failure)
        else:
            self.failure = None

    def _turn(self, export: str) -> None:
        found, upto = self._exports.scheduled(export)
        if found.schedule.every_minutes is not None:
            now, pause = self._clock.now_us(), found.schedule.every_minutes * MINUTE_US
            if now - self._looked.get(export, -pause) < pause:
                upto = 0  # nothing new yet; what failed is tried again all the same
            else:
                self._looked[export] = now
        while not self._stop.is_set():
            ran = self._exports.turn(export, upto=upto)
            if not ran.more:
                return
