"""A value looked up at most every so often, for readers that turn hundreds of times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

AGE_S_MAX = 0.05


class Recent(Generic[T]):
    """Calls ``look`` when the last answer is older than ``age_s_max``, and answers that.

    Threads may share one: two that find it old at once both look, and either answer is recent.
    """

    def __init__(self, look: Callable[[], T], *, age_s_max: float = AGE_S_MAX) -> None:
        self._look = look
        self._age_s_max = age_s_max
        self._held: tuple[float, T] | None = None

    def __call__(self) -> T:
        """The value, at most ``age_s_max`` old."""
        asked_at_s = time.monotonic()
        held = self._held
        if held is None or asked_at_s - held[0] > self._age_s_max:
            held = self._held = (asked_at_s, self._look())
        return held[1]
