"""A connection whose plain whole requests are answered without ASGI (:mod:`api.hot.express`).

Between two requests, what arrives is offered to the express way first. All else (parts of a
request, several at once, anything it does not take) is parsed as before, with every limit.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from api.hot.express import Express
from api.limits import BoundedProtocol, bounded_protocol
from api.settings import Limits


def express_protocol(limits: Limits, express: Express) -> type[BoundedProtocol]:
    """The protocol class for a server with ``limits`` whose short way is ``express``."""
    return type(
        "LimitedProtocol", (ExpressProtocol, bounded_protocol(limits)), {"express": express}
    )


class ExpressProtocol(BoundedProtocol):
    """One connection, with at most one request on the express way. Implements ``Wire``."""

    express: ClassVar[Express]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._away = False
        self._behind: list[bytes] = []
        self._last_request = False
        self._idle_since_s = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Offer a request to the express way; keep what comes behind one that is on it."""
        if self._away or self._behind:
            self._behind.append(data)
            self.flow.pause_reading()
            return
        if self._between_requests():
            self.express.served_with(self.server_state.default_headers)
            self._away = True  # before: the answer may come at once
            if self.express.accept(data, self):
                self._disarm()
                self._unset_keepalive_if_required()
                return
            self._away = False
        super().data_received(data)

    def reply(self, response: bytes) -> None:
        """Send the answer of the request on the express way, and go on with what came behind."""
        self._away = False
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._last_request:
            response = response.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        self.transport.write(response)
        if self._last_request:
            self._hang_up()
            return
        self._idle_since_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_idle)
        if self._behind:
            self.loop.call_soon(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer; an answer that is still to come finds the transport closed."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._behind.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, after the answer to the request under way."""
        if self._away:
            self._last_request = True
        else:
            super().shutdown()

    def _between_requests(self) -> bool:
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not (self._in_headers or self._in_body)
            and self._refusal is None
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _go_on(self) -> None:
        if self._away or not self._behind or self.transport.is_closing():
            return
        data = b"".join(self._behind)
        self._behind.clear()
        self.flow.resume_reading()
        self.data_received(data)

    def _look_idle(self) -> None:
        """Close a connection that is idle for too long. One timer serves many requests."""
        self._idle_timer = None
        if self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if self._away:
            left_s = self.timeout_keep_alive
        elif not self._between_requests() or self.timeout_keep_alive_task is not None:
            return  # the other way watches it
        elif left_s <= 0:
            self._hang_up()
            return
        self._idle_timer = self.loop.call_later(left_s, self._look_idle)
