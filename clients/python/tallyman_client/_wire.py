"""Carries steps out over HTTP: one driver for threads, one for tasks."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from tallyman_client._errors import Closed
from tallyman_client._options import MIB, Options
from tallyman_client._steps import Answer, Attempt, NoAnswer, Reply, Request, Steps

T = TypeVar("T")
ANSWER_BYTES_MAX = 64 * MIB
KEEPALIVE_S = 4.0
"""Shorter than servers keep idle connections (uvicorn: 5 s): few sends meet a closed one."""

USER_AGENT = "tallyman-client/0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the service is, and as whom to speak.

    ``verify`` is an SSL context, or whether to check certificates (against the system's).
    """

    url: str
    key: str | None = field(default=None, repr=False)
    verify: ssl.SSLContext | bool = True

    def __post_init__(self) -> None:
        url = httpx.URL(self.url)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(f"not the address of a service: {self.url!r}")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ValueError("a key is printable ASCII")

    def settings(self, options: Options) -> dict[str, Any]:
        """What httpx needs to know."""
        headers = {"user-agent": USER_AGENT}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        limits = httpx.Limits(
            max_connections=options.connections_max,
            max_keepalive_connections=options.connections_max,
            keepalive_expiry=KEEPALIVE_S,
        )
        return {
            "base_url": self.url,
            "headers": headers,
            "limits": limits,
            "verify": self.verify,
            "follow_redirects": False,
        }


class _TimeLeft(dict[str, float]):
    """A request's timeouts, as httpx looks them up: at each phase what is left of the whole."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, key: str, default: Any = None) -> float:
        """Seconds left; never 0, which would mean not to wait at all."""
        del key, default
        return max(0.001, self._deadline - time.monotonic())


class Wire:
    """Runs steps in the calling thread. Any number of threads may use it."""

    def __init__(self, address: Address, options: Options) -> None:
        self._settings = address.settings(options)
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._closed = False

    def run(self, steps: Steps[T], pause: Callable[[float], None] = time.sleep) -> T:
        """Carry ``steps`` out to the end. What ``pause`` raises ends them."""
        reply: Reply = None
        with closing(steps):
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration as done:
                    result: T = done.value
                    return result
                reply = None
                if isinstance(step, Attempt):
                    reply = self._attempt(step)
                else:
                    pause(step.seconds)

    def close(self) -> None:
        """Close the connections; what is under way may still end."""
        self._closed = True
        if self._http is not None:
            self._http.close()

    def _opened(self) -> httpx.Client:
        """The HTTP client, made when it is first needed: a forked child may not need its own."""
        with self._lock:
            if self._closed:
                raise Closed("the client is closed")
            if self._http is None:
                self._http = httpx.Client(**self._settings)
            return self._http

    def _attempt(self, step: Attempt) -> Answer | NoAnswer:
        deadline = time.monotonic() + step.timeout_s
        http = self._opened()
        request = _built(http, step.request, timeout=_TimeLeft(deadline))
        try:
            response = http.send(request, stream=True)
            with closing(response):
                content = _Content()
                for chunk in response.iter_bytes():
                    content.add(chunk)
                    if time.monotonic() > deadline:
                        return NoAnswer("the answer did not end in time")
                return _answer(response, content)
        except (httpx.RequestError, _AnswerTooLong) as error:
            return NoAnswer(_why(error))


class AsyncWire:
    """Runs steps in the running event loop."""

    def __init__(self, address: Address, options: Options) -> None:
        self._settings = address.settings(options)
        self._http: httpx.AsyncClient | None = None
        self._closed = False

    async def run(
        self, steps: Steps[T], pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> T:
        """Carry ``steps`` out to the end. What ``pause`` raises ends them."""
        reply: Reply = None
        with closing(steps):
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration as done:
                    result: T = done.value
                    return result
                reply = None
                if isinstance(step, Attempt):
                    reply = await self._attempt(step)
                else:
                    await pause(step.seconds)

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._http is not None:
            await self._http.aclose()

    def _opened(self) -> httpx.AsyncClient:
        if self._closed:
            raise Closed("the client is closed")
        if self._http is None:
            self._http = httpx.AsyncClient(**self._settings)
        return self._http

    async def _attempt(self, step: Attempt) -> Answer | NoAnswer:
        http = self._opened()
        request = _built(http, step.request, timeout={})
        try:
            async with asyncio.timeout(step.timeout_s):
                response = await http.send(request, stream=True)
                async with aclosing(response):
                    content = _Content()
                    async for chunk in response.aiter_bytes():
                        content.add(chunk)
                    return _answer(response, content)
        except TimeoutError:
            return NoAnswer("no answer in time")
        except (httpx.RequestError, _AnswerTooLong) as error:
            return NoAnswer(_why(error))


class _AnswerTooLong(Exception):
    """The answer is longer than any the service gives."""


class _Content:
    """An answer's bytes so far, within bounds."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > ANSWER_BYTES_MAX:
            raise _AnswerTooLong(f"the answer is over {ANSWER_BYTES_MAX} bytes")
        self.chunks.append(chunk)


def _built(
    http: httpx.Client | httpx.AsyncClient, request: Request, *, timeout: dict[str, float]
) -> httpx.Request:
    return http.build_request(
        request.method,
        request.path,
        params=request.params or None,
        content=request.content or None,
        headers=request.headers(),
        extensions={"timeout": timeout},
    )


def _answer(response: httpx.Response, content: _Content) -> Answer:
    return Answer(
        status=response.status_code,
        content=b"".join(content.chunks),
        retry_after=response.headers.get("retry-after"),
    )


def _why(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
