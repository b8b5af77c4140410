"""A bounded memory: what was used last stays, up to a size together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key, each of a size that does not change. Thread-safe.

    Those used longest ago go first, until the rest is of ``size_max`` at most; ``at_least`` so many
    stay, whatever their size.
    """

    def __init__(self, size_max: int, *, at_least: int = 0) -> None:
        self._size_max, self._at_least = size_max, at_least
        self._size = 0
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value of ``key``, which has now been used last; None if there is none any more."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, *, size: int) -> None:
        """Keep a value, in place of the one before, until others need the room."""
        with self._lock:
            _, before = self._held.pop(key, (None, 0))
            self._held[key] = value, size
            self._size += size - before
            while self._size > self._size_max and len(self._held) > self._at_least:
                _, (_, gone) = self._held.popitem(last=False)
                self._size -= gone

    def clear(self) -> None:
        """Keep nothing of what there was."""
        with self._lock:
            self._held.clear()
            self._size = 0
