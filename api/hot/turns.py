"""What arrives in one turn of the event loop, answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from api.hot.express import Call

T = TypeVar("T")

TURN_MAX = 500
"""Calls that are answered together at most: the rest of the turn is the next group."""


class Turns(Generic[T]):
    """Gathers the calls of one turn, each with what it asks, and has them answered in one task."""

    def __init__(self, answer: Callable[[Sequence[tuple[Call, T]]], Awaitable[None]]) -> None:
        """Wire it: what ``answer`` raises before it has answered a call is told to all."""
        self._answer = answer
        self._waiting: list[tuple[Call, T]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, call: Call, asked: T) -> None:
        """Have ``call`` answered with the others of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((call, asked))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), TURN_MAX):
            task = asyncio.create_task(self._run(waiting[first : first + TURN_MAX]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, waiting: Sequence[tuple[Call, T]]) -> None:
        try:
            await self._answer(waiting)
        except Exception as error:  # noqa: BLE001  (each caller is told)
            for call, _ in waiting:
                call.fail(error)
