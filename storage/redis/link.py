"""One pipelined connection to Redis or Valkey for an event loop.

Every call of one loop turn goes out in one write and replies are matched in order, so
concurrent decisions share round trips without waiting for each other. What is not answered in time
is unknown; there are no silent retries. A server that stays silent loses the connection, and the
next call finds a new one being made in the background.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url

from entitlements.ports import LedgerUnavailable

WAITING_MAX = 20_000
"""Calls under way at once; more are refused rather than queued."""

TURN_S = 0.002
SILENT_S = 0.25
"""A connection is closed when its server owes an answer for so long beyond its time: until then a
slow moment costs those who waited through it, and nobody else."""

Argument = str | int | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is: a unix socket path, or host and port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 6379
    username: str | None = None
    password: str | None = None
    db: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``unix://…``, ``redis://…`` or ``rediss://…`` as redis-py does."""
        found: dict[str, Any] = dict(parse_url(url))
        return cls(
            path=found.get("path"),
            host=found.get("host", "127.0.0.1"),
            port=found.get("port", 6379),
            username=found.get("username"),
            password=found.get("password"),
            db=int(found.get("db", 0)),
            tls=url.startswith("rediss:"),
        )


class Refused(Exception):
    """The server answered with an error."""


class _Awaited:
    """The replies of some commands, and who waits for them."""

    __slots__ = ("count", "future", "replies", "until_s")

    def __init__(self, future: asyncio.Future[list[Any]], until_s: float, count: int) -> None:
        self.future = future
        self.until_s = until_s
        self.count = count
        self.replies: list[Any] = []


class _Wire(asyncio.Protocol):
    """Bytes out, replies in, strictly in order."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(encoding="utf-8")
        self._waiting: deque[_Awaited] = deque()
        self._calls = 0
        self._out: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._overdue: _Awaited | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(
        self, spelled: Sequence[bytes], *, until_s: float | None = None
    ) -> asyncio.Future[list[Any]]:
        """Send commands; their replies, errors among them, come together."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self.open or self._calls >= WAITING_MAX:
            future.set_exception(LedgerUnavailable("the entitlement ledger is not reachable"))
            return future
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += spelled
        self._calls += len(spelled)
        self._waiting.append(_Awaited(future, self._loop.time() + self._timeout_s, len(spelled)))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        if until_s is not None:
            # As in _look: the answer may be there, and its socket not yet read.
            self._loop.call_at(until_s, self._loop.call_later, TURN_S, _tell_late, future)
        return future

    def _flush(self) -> None:
        if self.transport is not None and self._out:
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def _look(self) -> None:
        """Answer for calls that are overdue, and close when the server has been silent too long.

        Timers run before sockets are read: where the loop itself was late, the answers may be
        there. So an overdue call is given one more turn.
        """
        self._watch = None
        if not self._waiting:
            return
        oldest, now_s = self._waiting[0], self._loop.time()
        if oldest.until_s + SILENT_S <= now_s and oldest is self._overdue:
            if self.transport is not None:
                self.transport.abort()
            self._fail("the entitlement ledger did not answer in time")
            return
        if oldest.until_s <= now_s and oldest is self._overdue:
            self._give_up(now_s)
        self._overdue = oldest if oldest.until_s <= now_s else None
        self._watch = self._loop.call_later(max(oldest.until_s - now_s, TURN_S), self._look)

    def _give_up(self, now_s: float) -> None:
        """Tell whoever has waited long enough.

        What they asked may still be done: replies keep their order, and a late one is thrown away.
        """
        for each in self._waiting:
            if each.until_s > now_s:
                return
            _tell_late(each.future)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, waiting = self._reader.gets, self._waiting
        while waiting:
            first = waiting[0]
            replies = first.replies
            while len(replies) < first.count:
                reply = gets()
                if reply is False:
                    return
                replies.append(reply)
            waiting.popleft()
            self._calls -= first.count
            if not first.future.done():
                first.future.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._fail("the connection to the entitlement ledger was lost")

    def _fail(self, detail: str) -> None:
        waiting, self._waiting, self._calls = self._waiting, deque(), 0
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(LedgerUnavailable(detail))


class Link:
    """A connection that is made again whenever it is lost."""

    def __init__(
        self,
        address: Address,
        *,
        greet: Callable[[Link], Awaitable[None]],
        timeout_s: float,
        retry_s: float = 0.05,
    ) -> None:
        """Prepare a link; nothing happens before :meth:`start`.

        Args:
            address: the server.
            greet: called on every new connection before anybody may use it.
            timeout_s: how long any answer may take.
            retry_s: pause between attempts to connect.
        """
        self._address = address
        self._greet = greet
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self.up = False

    async def start(self) -> None:
        """Begin connecting; returns after the first attempt, successful or not."""
        await self._attempt()
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop()

    async def call(self, *command: Argument, until_s: float | None = None) -> Any:
        """Send a command; answers the reply, text decoded.

        Raises:
            LedgerUnavailable: no answer in time, or no connection.
            Refused: the server answered with an error.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        [reply] = await self.send([packed], until_s=until_s)
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(str(reply))
        return reply

    def tell(self, *command: Argument) -> None:
        """Send a command whose reply nobody waits for."""
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        self.send([packed]).add_done_callback(_heeded)

    def send(
        self, spelled: Sequence[bytes], *, until_s: float | None = None
    ) -> asyncio.Future[list[Any]]:
        """Send commands as bytes; all their replies come in the future, errors among them.

        ``until_s``, by the loop's clock, is sooner than the link's own timeout: these commands
        follow on others, and whoever waits has waited for those.

        Raises (in the future):
            LedgerUnavailable: no answer in time, or no connection.
        """
        if self._wire is None:
            future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            future.set_exception(LedgerUnavailable("the entitlement ledger is not reachable"))
            return future
        return self._wire.send(spelled, until_s=until_s)

    async def _keep(self) -> None:
        while True:
            if self._wire is None or not self._wire.open:
                await self._attempt()
            await asyncio.sleep(self._retry_s)

    async def _attempt(self) -> None:
        self._drop()
        try:
            async with asyncio.timeout(max(1.0, 10 * self._timeout_s)):
                self._wire = await self._connected()
                await self._introduced()
                await self._greet(self)
            self.up = True
        except (OSError, TimeoutError, LedgerUnavailable, Refused):
            self._drop()

    async def _connected(self) -> _Wire:
        loop, address = asyncio.get_running_loop(), self._address

        def make() -> _Wire:
            return _Wire(self._timeout_s)

        if address.path is not None:
            _, wire = await loop.create_unix_connection(make, address.path)
        else:
            _, wire = await loop.create_connection(
                make, address.host, address.port, ssl=address.tls or None
            )
        return wire

    async def _introduced(self) -> None:
        address = self._address
        if address.password is not None:
            login = (address.username,) if address.username else ()
            await self.call("AUTH", *login, address.password)
        if address.db:
            await self.call("SELECT", address.db)

    def _drop(self) -> None:
        self.up = False
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.abort()
        self._wire = None


def _tell_late(future: asyncio.Future[list[Any]]) -> None:
    if not future.done():
        late = LedgerUnavailable("the entitlement ledger did not answer in time")
        future.set_exception(late)


def _heeded(sent: asyncio.Future[Any]) -> None:
    """What was only told may be lost."""
    if not sent.cancelled():
        sent.exception()
