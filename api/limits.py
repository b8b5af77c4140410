"""HTTP/1.1 with limits: header bytes, deadlines, connections. A uvicorn protocol subclass.

uvicorn over httptools has none of its own: a 200 MB header is collected, and a connection that
sends half a header stays for ever. Timers are armed only when a request does not arrive in one
piece, so ordinary small requests pay for two comparisons.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.problems import CONTENT_TYPE, problem_with_code
from api.settings import Limits
from api.stalls import Stall

# What a client may still send after its answer, e.g. the rest of a body that was refused. It is
# read and dropped, because closing at once would destroy the answer on its way.
DISCARD_BYTES_MAX = 64 * 1024**2
HEADER_OVERHEAD_BYTES = 4  # ": " and CRLF
RATE_CHECK_S = 5.0
AHEAD_MAX = 256
"""Requests on one connection ahead of their answers: thousands fit into one read."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Subclassed with its limits by :func:`bounded_protocol`."""

    limits: ClassVar[Limits]
    peers: ClassVar[Counter[str]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._in_body = False
        self._refusal: str | None = None
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._discarded_bytes = 0
        self._body_bytes = 0
        self._body_began_s = 0.0
        self._messages = 0
        self._peer = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._cycles: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse it if there are too many; else give it a deadline for its first request."""
        super().connection_made(transport)
        self._stall = Stall(self.loop, transport, within_s=self.limits.answer_s_max)
        if self._joined() or len(self.connections) > self.limits.connections_max:
            self._refuse("overloaded")
            return
        self._arm(self.limits.header_s_max)

    def _joined(self) -> bool:
        """Count the connection with its peer's; whether these are too many. A socket has none."""
        if self.client is None:
            return False
        self._peer = peer_of(self.client[0])
        self.peers[self._peer] += 1
        return self.peers[self._peer] > self.limits.connections_per_peer_max

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline, and the connection among its peer's."""
        self._disarm()
        self._stall.stop()
        self._abandon()
        if self._peer:
            self.peers[self._peer] -= 1
            if not self.peers[self._peer]:
                del self.peers[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then see whether what came leaves a request half received."""
        if self._refusal is not None:
            return
        messages = self._messages
        super().data_received(data)
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._in_headers:
            # The parser keeps an unfinished header to itself, so bytes are counted here. A chunk
            # that also ended an earlier request says nothing about this one's size.
            if self._messages == messages:
                self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self.limits.header_bytes_max:
                self._refuse("headers_too_large")
            elif self._deadline is None:
                self._arm(self.limits.header_s_max)
        elif self._in_body and self._deadline is None:
            self._body_began_s = self.loop.time()
            self._watch_body(0)

    def on_message_begin(self) -> None:
        """A request line starts."""
        super().on_message_begin()
        self._in_headers, self._in_body = True, False
        self._header_bytes = self._unparsed_bytes = 0
        self._body_bytes = self._discarded_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole header."""
        self._header_bytes += len(name) + len(value) + HEADER_OVERHEAD_BYTES
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its headers are too large or too many wait before it."""
        self._disarm()
        self._in_headers, self._in_body = False, True
        if self._header_bytes > self.limits.header_bytes_max:
            self._refusal = "headers_too_large"
            raise ValueError(self._refusal)  # ends in send_400_response
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        if len(self._cycles) >= AHEAD_MAX:
            self._refusal = "overloaded"
            raise ValueError(self._refusal)
        super().on_headers_complete()
        self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on, or drop it (boundedly) when the answer is out."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > DISCARD_BYTES_MAX:
                self._hang_up()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        self._disarm()
        self._in_body = False
        self._messages += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written; the last one of its connection must be taken in time."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._stall.watch()

    def pause_writing(self) -> None:
        """The caller takes less than is written: it has some time to catch up."""
        super().pause_writing()
        self._stall.watch()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stall.stop()
        if self.transport.is_closing():
            self._stall.watch()

    def timeout_keep_alive_handler(self) -> None:
        """The connection was idle for too long."""
        self._hang_up()

    def shutdown(self) -> None:
        """Close, after the answers to what was asked."""
        super().shutdown()
        if self.transport.is_closing():
            self._stall.watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser (or one of the callbacks) did not take."""
        code, self._refusal = self._refusal or "bad_request", None
        self._refuse(code, detail=msg if code == "bad_request" else "")

    def _arm(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_body(self, elapsed_s: float) -> None:
        """Look again at how much of the body has come, by its deadline at the latest."""
        left_s = self.limits.body_s_max - elapsed_s
        self._deadline = self.loop.call_later(min(RATE_CHECK_S, left_s), self._check_body)

    def _check_body(self) -> None:
        """Refuse a body that is late, or so slow that it only holds its place."""
        elapsed_s = self.loop.time() - self._body_began_s
        slow = self._body_bytes < elapsed_s * self.limits.body_bytes_per_s_min
        # While we do not read, nobody can send.
        if elapsed_s >= self.limits.body_s_max or (slow and not self.flow.read_paused):
            self._expire()
        else:
            self._watch_body(elapsed_s)

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse("request_timeout")

    def _refuse(self, code: str, *, detail: str = "") -> None:
        """Answer with a problem, if nothing was answered yet, and close."""
        self._refusal = code
        self._disarm()
        if not any(cycle.response_started for cycle in self._unanswered()):
            self.transport.write(_response(code, detail))
        self._abandon()
        self._hang_up()

    def _unanswered(self) -> list[RequestResponseCycle]:
        """What was asked and is not answered yet: several, where a caller sent ahead."""
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def _abandon(self) -> None:
        """Their handlers see that the caller is gone; the server tells the newest one only."""
        for cycle in self._unanswered():
            cycle.disconnected = True
            cycle.message_event.set()

    def _hang_up(self) -> None:
        """Close; what was written before must be taken in time."""
        if not self.transport.is_closing():
            self.transport.close()
            self._stall.watch()


def bounded_protocol(limits: Limits) -> type[BoundedProtocol]:
    """The protocol class for a server with ``limits`` (uvicorn makes the instances)."""
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits, "peers": Counter()})


def peer_of(host: str) -> str:
    """Who is counted as one: an IPv4 address, or the 64 bits of IPv6 that one site has."""
    if ":" not in host:
        return host
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.exploded[:19]


def _response(code: str, detail: str) -> bytes:
    problem = problem_with_code(code, detail=detail)
    body = problem.body("")
    return b"".join(
        (
            STATUS_LINE[problem.status],
            b"content-type: " + CONTENT_TYPE + b"\r\n",
            b"content-length: " + str(len(body)).encode() + b"\r\n",
            b"retry-after: 1\r\n" if problem.status == 503 else b"",
            b"connection: close\r\n\r\n",
            body,
        )
    )
