"""What arrives in one turn of the event loop, answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from api.hot.express import Call

T = TypeVar("T")

TURN_MAX = 500
"""Calls that are answered together at most: the rest of the turn is the next group."""

UNDER_WAY_MAX = 2
"""Groups under way (one at the ledger, one at the log) before the next gathers for longer."""

GATHERED_S_MAX = 0.002
"""And for how long it does: a ledger that does not answer must not keep the next from asking."""


class Turns(Generic[T]):
    """Gathers the calls of one turn, each with what it asks, and has them answered in one task.

    A group costs something whatever its size: the more calls there are, the larger groups get.
    """

    def __init__(self, answer: Callable[[Sequence[tuple[Call, T]]], Awaitable[None]]) -> None:
        """Wire it: what ``answer`` raises, before it has answered any call, is told to all."""
        self._answer = answer
        self._waiting: list[tuple[Call, T]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: asyncio.Handle | None = None

    def join(self, call: Call, asked: T) -> None:
        """Have ``call`` answered with the others of this turn."""
        if self._due is None:
            loop = asyncio.get_running_loop()
            if len(self._tasks) < UNDER_WAY_MAX:
                self._due = loop.call_soon(self._flush)
            else:
                self._due = loop.call_later(GATHERED_S_MAX, self._flush)
        self._waiting.append((call, asked))

    def _flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), TURN_MAX):
            task = asyncio.create_task(self._run(waiting[first : first + TURN_MAX]))
            self._tasks.add(task)
            task.add_done_callback(self._over)

    async def _run(self, waiting: Sequence[tuple[Call, T]]) -> None:
        try:
            await self._answer(waiting)
        except Exception as error:  # noqa: BLE001  (each caller is told)
            for call, _ in waiting:
                call.fail(error)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting and len(self._tasks) < UNDER_WAY_MAX:
            self._flush()
