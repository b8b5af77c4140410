"""Callers who do not take their answers: what was written goes out in time, or is cut off."""

from __future__ import annotations

import asyncio

STEP_BYTES = 32 * 1024


class Stall:
    """Watches what one transport has not got rid of yet. Costs nothing until it is asked to.

    While it watches nobody may write: the transport is closing, or its writers are paused.
    """

    __slots__ = ("_loop", "_timer", "_transport", "_within_s")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, *, within_s: float
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._within_s = within_s
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Abort the transport unless :data:`STEP_BYTES` or all there is go out, again and again."""
        left = self._transport.get_write_buffer_size()
        if self._timer is None and left:
            self._timer = self._loop.call_later(self._within_s, self._look, left)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() > max(0, before - STEP_BYTES):
            self._transport.abort()
        else:
            self.watch()
