"""Serve an ASGI application as what is measured against: uvicorn, httptools and uvloop, bare."""

from __future__ import annotations

import asyncio
from socket import socket

import uvicorn
import uvloop
from starlette.types import ASGIApp


def serve(app: ASGIApp, listener: socket) -> None:
    """Serve on an inherited listening socket until SIGTERM."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=600,
        backlog=4_096,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))
