"""Everything that is not hot goes to the worker over its unix socket, streaming both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
from starlette.types import Receive, Scope, Send

from api.auth import Principal
from api.settings import Limits
from catalog.errors import DomainError, Unavailable

KEY_ID_HEADER = b"x-tallyman-key-id"
SCOPES_HEADER = b"x-tallyman-scopes"
REQUEST_ID_HEADER = b"x-request-id"

CONNECT_S_MAX = 2.0
_WORKER = httpx.URL("http://worker")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What the worker must not see from outside: the key itself, and what only the gateway may say.
_GATEWAY_ONLY = (b"authorization", b"host", b"expect", REQUEST_ID_HEADER)


class WorkerUnavailable(Unavailable):
    """The worker is not running, or died while answering: a write may or may not have happened."""

    code = "worker_unavailable"


class Overloaded(Unavailable):
    """More requests wait for the worker than the queue may hold."""

    code = "overloaded"


class BodyTooLarge(DomainError):
    """The body is longer than allowed."""

    code = "body_too_large"


class ClientGone(Exception):
    """The caller hung up before its request was complete. Nobody is left to answer."""


class Relay:
    """An ASGI application that answers with what the worker answers."""

    def __init__(self, socket: Path, *, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.relays_max)
        self._waiting = 0
        pool = httpx.Limits(
            max_connections=limits.relays_max + 4, max_keepalive_connections=limits.relays_max
        )
        # One retry of the *connect* only: right after the worker restarted, kept connections are
        # dead and the pool notices when it uses them.
        transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=pool, retries=1)
        timeout = httpx.Timeout(limits.relay_s_max, connect=CONNECT_S_MAX)
        self._timeout = timeout.as_dict()
        self._client = httpx.AsyncClient(transport=transport, base_url="http://worker")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request.

        Raises:
            WorkerUnavailable: no answer came, or it broke off.
            Overloaded: too many requests wait already.
            BodyTooLarge: the body is, or says it is, over the limit.
            ClientGone: the caller hung up.
        """
        _check_declared(scope["headers"], self._limits.body_bytes_max)
        async with self._slot():
            try:
                response = await self._client.send(self._request(scope, receive), stream=True)
                try:
                    await _answer(response, send)
                finally:
                    await response.aclose()
            except httpx.HTTPError as error:
                raise WorkerUnavailable(f"the worker did not answer: {_name(error)}") from error

    async def get(self, path: str, *, timeout_s: float) -> httpx.Response:
        """Ask the worker something for the gateway itself.

        Raises:
            httpx.HTTPError: it did not answer in time.
        """
        return await self._client.get(path, timeout=timeout_s)

    async def post(self, path: str, *, content: bytes, timeout_s: float) -> bytes:
        """Ask the worker something for the gateway itself; answers the body.

        Raises:
            WorkerUnavailable: it did not answer in time, or cannot answer now.
        """
        try:
            answer = await self._client.post(path, content=content, timeout=timeout_s)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise WorkerUnavailable(f"the worker did not answer: {_name(error)}") from error
        return answer.content

    async def document(self) -> bytes:
        """The worker's OpenAPI document.

        Raises:
            WorkerUnavailable: it did not answer in time.
        """
        try:
            answer = await self.get("/openapi.json", timeout_s=self._limits.relay_s_max)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise WorkerUnavailable(f"the worker did not answer: {_name(error)}") from error
        return answer.content

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _request(self, scope: Scope, receive: Receive) -> httpx.Request:
        target = scope["raw_path"] or b"/"
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        headers = [*_forwarded(scope["headers"]), *_told(scope)]
        has_body = any(
            name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"]
        )
        # Not client.build_request: that would add headers the caller did not send, and the
        # worker would compress for callers who cannot inflate. Not an httpx.URL of the target:
        # that resolves "..", and the worker would answer for another path than the one admitted.
        return httpx.Request(
            scope["method"],
            _WORKER,
            headers=headers,
            content=_body(receive, self._limits.body_bytes_max) if has_body else None,
            extensions={"timeout": self._timeout, "target": target},
        )

    def _slot(self) -> _Slot:
        if self._slots.locked() and self._waiting >= self._limits.relay_queue_max:
            raise Overloaded("too many requests wait for the worker")
        return _Slot(self)


class _Slot:
    """A place among the relayed requests; entering waits for one."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def __aenter__(self) -> None:
        relay = self._relay
        relay._waiting += 1  # noqa: SLF001  (its other half)
        try:
            await relay._slots.acquire()  # noqa: SLF001
        finally:
            relay._waiting -= 1  # noqa: SLF001

    async def __aexit__(self, *_: object) -> None:
        self._relay._slots.release()  # noqa: SLF001


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in headers
        if name not in _HOP_BY_HOP
        and name not in _GATEWAY_ONLY
        and not name.startswith(b"x-tallyman-")
    ]


def _told(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What the gateway says about the request in headers that only it may set."""
    state = scope["state"]
    told = [(b"host", b"worker"), (REQUEST_ID_HEADER, state["request_id"].encode())]
    principal: Principal | None = state.get("principal")
    if principal is not None:
        told.append((KEY_ID_HEADER, principal.key_id.encode()))
        told.append((SCOPES_HEADER, ",".join(sorted(principal.scopes)).encode()))
    return told


def _check_declared(headers: Iterable[tuple[bytes, bytes]], bytes_max: int) -> None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > bytes_max:
            raise _too_large(bytes_max)


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {bytes_max} bytes")


async def _body(receive: Receive, bytes_max: int) -> AsyncIterator[bytes]:
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        received += len(part)
        if received > bytes_max:
            raise _too_large(bytes_max)
        if part:
            yield part
        more = message.get("more_body", False)


async def _answer(response: httpx.Response, send: Send) -> None:
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower() not in _HOP_BY_HOP
    ]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for part in response.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _name(error: httpx.HTTPError) -> str:
    return type(error).__name__
