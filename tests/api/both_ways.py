"""Asks the same of a gateway's handlers on the express way, and over ASGI what that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx
from starlette.types import ASGIApp

from api.auth import Keyring
from api.hot.dispatch import Hot, Routes
from api.hot.express import Express
from catalog.clock import FixedClock, Micros
from catalog.keys import KeyId, KeyRecord, key_digest
from catalog.keys import Scope as KeyScope

_KEY = "k" * 40


class BothWays(httpx.AsyncBaseTransport):
    """A transport. ``taken`` counts what the express way answered."""

    def __init__(self, routes: Iterable[tuple[str, str, ASGIApp]], app: ASGIApp) -> None:
        record = KeyRecord(
            id=KeyId("k"),
            digest=key_digest(_KEY),
            name="k",
            scopes=frozenset({KeyScope.ADMIN}),
            created_at=Micros(0),
        )
        keyring = Keyring([record], clock=FixedClock(0))
        self._express = Express(
            routes=Routes(Hot(method=m, path=p, handler=h) for m, p, h in routes),
            keyring=lambda: keyring,
            observe=lambda *_: None,
            head_bytes_max=16_384,
        )
        self._express.served_with([])
        self._app = httpx.ASGITransport(app)
        self.taken = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        body = await request.aread()
        target = request.url.raw_path.decode()
        told = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        lines = [f"{name}: {value}" for name, value in [*told, ("Authorization", f"Bearer {_KEY}")]]
        head = "\r\n".join([f"{request.method} {target} HTTP/1.1", *lines, "", ""])
        wire = _Wire()
        if not self._express.accept(head.encode("latin-1") + body, wire):
            return await self._app.handle_async_request(request)
        self.taken += 1
        start, _, content = (await wire.answer).partition(b"\r\n\r\n")
        first, *named = start.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in named]
        return httpx.Response(int(first.split()[1]), headers=headers, content=content)


class _Wire:
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(self, response: bytes) -> None:
        self.answer.set_result(response)
