"""One thread that does a piece of work whenever it is woken."""

from __future__ import annotations

import threading
from collections.abc import Callable

RETRY_S = 5.0


class Background:
    """Runs ``work`` after every :meth:`wake`; when the disk fails, again after a while."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._wanted.set()

    def stop(self) -> None:
        """Let it finish what it is at, and wait for that."""
        self._stopped.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped.is_set():
                return
            try:
                self._work()
            except OSError:
                # What could not be done waits in memory; whoever adds to it finds out in time.
                self._stopped.wait(RETRY_S)
                self._wanted.set()
