"""Open routes that cost something: who asks while an answer is made gets that one.

Nobody needs a key for them, so many who ask at once must cost no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Makes one thing at a time. Whoever leaves takes nothing along for the others."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What is being made now, or else a new one. What ``make`` raises is raised."""
        if self._making is None:
            self._making = asyncio.create_task(self._made())
            self._making.add_done_callback(self._over)
        return await asyncio.shield(self._making)

    async def _made(self) -> T:
        return await self._make()

    def _over(self, task: asyncio.Task[T]) -> None:
        self._making = None
        if not task.cancelled():
            task.exception()  # all who asked may have left
