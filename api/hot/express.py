"""Requests that come whole and plain, answered without ASGI.

A client sends the same headers over and over, and one of a few request lines. So both are read
once, by their bytes, and what follows is kept: the route, who asks, how long the body is. Only
what is beyond doubt is read here: no escapes in the path, no query, none but known header names,
once each. Anything else takes the ASGI way, and so does what a handler does not take; errors that
are there at once are left to it too. ADR 10 says why, and what it is worth.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, TypeVar

import structlog

from api import auth
from api.hot.dispatch import Observe, Routes
from api.hot.heads import Head, Line, read_head, read_line
from api.problems import CONTENT_TYPE, INTERNAL, Problem, problem_of
from catalog.errors import DomainError
from catalog.keys import Scope as KeyScope

log = structlog.get_logger()

T = TypeVar("T")

KEPT_MAX = 4_096
"""Request lines, and heads, that are kept. At the limit all are forgotten."""


@dataclass(slots=True, kw_only=True)
class _Holder:
    """A head with the key it came with. ``may`` remembers which lines it was let in to."""

    head: Head
    key: auth.Held
    may: set[frozenset[KeyScope]] = field(default_factory=set)


class Wire(Protocol):
    """The connection a request came by."""

    def reply(self, response: bytes) -> None:
        """Send the whole answer of the request under way; nothing where the caller has left."""
        ...


class Handler(Protocol):
    """What a hot route offers beside its ASGI application, to be asked first."""

    def take(self, call: Call) -> bool:
        """Answer ``call``, now or later; False leaves it, untouched, to the ASGI application.

        Raises:
            DomainError: it cannot be taken; the ASGI application will say so.
        """
        ...


class Call:
    """One request, and where its answer goes. To be answered, or failed, exactly once."""

    __slots__ = ("_began_s", "_express", "_line", "_wire", "body", "head")

    def __init__(self, express: Express, wire: Wire, line: Line, head: Head, body: bytes) -> None:
        self._express = express
        self._wire = wire
        self._line = line
        self._began_s = time.perf_counter()
        self.head = head
        self.body = body

    @property
    def parameters(self) -> dict[str, str]:
        """The path's."""
        return self._line.parameters

    def run(self, work: Coroutine[object, object, bytes]) -> None:
        """Answer with the JSON that ``work`` comes to, in a task of its own."""
        self._express.run(self, work)

    def answer(self, content: bytes) -> None:
        """Answer 200 with ``content``, which is JSON."""
        express = self._express
        self._wire.reply(
            b"%b%d\r\nx-request-id: %b\r\n\r\n%b"
            % (express.accepted(), len(content), express.request_id(self.head), content)
        )
        self._observe(200)

    def fail(self, error: BaseException) -> None:
        """Answer with the problem ``error`` is. What nobody expects is logged."""
        if isinstance(error, DomainError):
            problem = problem_of(error)
        else:
            log.error("request_failed", path=self._line.hot.path, exc_info=error)
            problem = INTERNAL
        self._wire.reply(self._express.problem(problem, self.head))
        self._observe(problem.status)

    def _observe(self, status: int) -> None:
        hot, seconds = self._line.hot, time.perf_counter() - self._began_s
        self._express.observe(hot.method, hot.path, status, seconds)


class Express:
    """Recognises requests that may go the short way. One for all connections of a server."""

    def __init__(
        self,
        *,
        routes: Routes,
        keyring: Callable[[], auth.Keyring],
        observe: Observe,
        head_bytes_max: int,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Wire it to the same things as the :class:`api.hot.dispatch.Dispatcher` beside it.

        Args:
            routes: the hot routes; those whose handler is a :class:`Handler` are served.
            keyring: the current keys.
            observe: told of every answer.
            head_bytes_max: a longer request line with headers takes the other way.
            headers: sent with every answer.
        """
        self.observe = observe
        self._routes = routes
        self._revision = routes.revision
        self._keyring = keyring
        self._known_to = keyring()
        self._head_bytes_max = head_bytes_max
        self._headers = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        self._lines: dict[bytes, Line] = {}
        self._heads: dict[bytes, _Holder] = {}
        self._prefix = secrets.token_hex(6).encode()
        self._count = itertools.count(1)
        self._default: list[tuple[bytes, bytes]] | None = None
        self._start = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def served_with(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The server's own headers (its date), which it replaces every second."""
        if headers is not self._default:
            self._default = headers
            shown = b"".join(b"%b: %b\r\n" % pair for pair in headers)
            self._start = b"".join(
                (
                    b"HTTP/1.1 200 OK\r\n",
                    shown,
                    self._headers,
                    b"content-type: application/json\r\ncontent-length: ",
                )
            )

    def accept(self, data: bytes, wire: Wire) -> bool:
        """Take the request in ``data``, if that is exactly one, and one for this way."""
        head_at = data.find(b"\r\n")
        body_at = data.find(b"\r\n\r\n", head_at)
        if body_at < 0 or body_at > self._head_bytes_max:
            return False
        line = self._line(data[:head_at])
        holder = line and self._holder(data[head_at:body_at])
        if not line or not holder:
            return False
        body = data[body_at + 4 :]
        if len(body) != holder.head.content_length or not _admitted(line, holder):
            return False
        handler: Handler = line.hot.handler  # type: ignore[assignment]  # see _read_line
        try:
            return handler.take(Call(self, wire, line, holder.head, body))
        except DomainError:
            return False

    def run(self, call: Call, work: Coroutine[object, object, bytes]) -> None:
        """Answer ``call`` with the JSON that ``work`` comes to, in a task of its own."""
        task = asyncio.get_running_loop().create_task(_finish(call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kept(self) -> tuple[int, int]:
        """How many request lines and heads are kept."""
        return len(self._lines), len(self._heads)

    def accepted(self) -> bytes:
        """An answer's beginning, up to its length."""
        return self._start

    def request_id(self, head: Head) -> bytes:
        """The caller's own, else a new one."""
        return head.request_id or b"%b-%x" % (self._prefix, next(self._count))

    def problem(self, problem: Problem, head: Head) -> bytes:
        """A whole answer that is ``problem``."""
        request_id = self.request_id(head)
        body = problem.body(request_id.decode())
        told = (
            *(self._default or ()),
            (b"content-type", CONTENT_TYPE),
            (b"content-length", b"%d" % len(body)),
            *problem.headers,
        )
        reason = HTTPStatus(problem.status).phrase.encode()
        return b"HTTP/1.1 %d %b\r\n%b%bx-request-id: %b\r\n\r\n%b" % (
            problem.status,
            reason,
            b"".join(b"%b: %b\r\n" % pair for pair in told),
            self._headers,
            request_id,
            body,
        )

    def _line(self, text: bytes) -> Line | None:
        if self._routes.revision != self._revision:
            self._lines.clear()
            self._revision = self._routes.revision
        line = self._lines.get(text)
        if line is None:
            line = read_line(text, self._routes)
            if line is not None:
                _keep(self._lines, text, line)
        return line

    def _holder(self, text: bytes) -> _Holder | None:
        keyring = self._keyring()
        if keyring is not self._known_to:  # a key may have been revoked
            self._heads.clear()
            self._known_to = keyring
        holder = self._heads.get(text)
        if holder is None:
            head = read_head(text)
            key = head and keyring.held(head.key)
            if not head or not key:
                return None
            holder = _Holder(head=head, key=key)
            if head.kept:
                _keep(self._heads, text, holder)
        return holder if keyring.is_live(holder.key) else None


async def _finish(call: Call, work: Coroutine[object, object, bytes]) -> None:
    try:
        content = await work
    except Exception as error:  # noqa: BLE001  (the caller is told)
        call.fail(error)
    else:
        call.answer(content)


def _admitted(line: Line, holder: _Holder) -> bool:
    """Limited keys take the other way, where what they reach is looked at: :mod:`api.reach`."""
    if line.scopes in holder.may:
        return True
    principal = holder.key.principal
    if principal.limited or not principal.may(line.scopes):
        return False
    holder.may.add(line.scopes)
    return True


def _keep(kept: dict[bytes, T], text: bytes, what: T) -> None:
    if len(kept) >= KEPT_MAX:
        kept.clear()
    kept[text] = what
