"""Serves an ASGI application on a real socket for one test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.types import ASGIApp

from api.hot.express import Express
from api.serving import make_server
from api.settings import Limits


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    limits: Limits | None = None,
    path: Path | None = None,
    express: Express | None = None,
) -> AsyncIterator[int]:
    """Yields the port (0 on a unix socket)."""
    server = make_server(
        app,
        limits=limits or Limits(),
        drain_s_max=2,
        path=None if path is None else str(path),
        express=express,
    )
    listener = None
    port = 0
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
    task = asyncio.create_task(server.serve(sockets=None if listener is None else [listener]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    try:
        yield port
    finally:
        server.should_exit = True
        await task
        if listener is not None:
            listener.close()
