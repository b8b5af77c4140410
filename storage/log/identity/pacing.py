"""Background work in slices, with rests between them: the core belongs to who answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Rest = Callable[[], object]
"""Called between two slices of the work."""

REST_SHARE = 4.0
"""So many times as long as a slice took is the rest behind it, when there is little to do."""


def no_rest() -> None:
    """Work through."""


class Pacing:
    """Lets one thread work a share of the time: a fifth, more with more ``waiting``.

    Not at all is rested while somebody is in a hurry (:meth:`hurried`).
    """

    def __init__(self) -> None:
        self._hurry = threading.Event()
        self._worked_s = 0.0

    def begin(self) -> None:
        """Work begins, in this thread."""
        self._worked_s = time.thread_time()

    def rest(self, waiting: float) -> None:
        """A slice is done, and so many others ``waiting``. What is waited for is no work."""
        worked_s = time.thread_time() - self._worked_s
        self._hurry.wait(worked_s * REST_SHARE / (1 + waiting))
        self._worked_s = time.thread_time()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Meanwhile nobody rests."""
        self._hurry.set()
        try:
            yield
        finally:
            self._hurry.clear()
