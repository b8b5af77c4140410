"""Running ASGI applications on sockets until told to stop: uvicorn, without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from collections.abc import Generator, Sequence
from socket import socket

import uvicorn
import uvloop
from starlette.types import ASGIApp

from api.expressway import express_protocol
from api.hot.express import Express
from api.limits import bounded_protocol
from api.settings import Limits

BACKLOG = 2_048


class Server(uvicorn.Server):
    """A server that leaves signals to its process: two of them run on one loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def make_server(
    app: ASGIApp,
    *,
    limits: Limits,
    drain_s_max: float,
    path: str | None = None,
    lifespan: bool = False,
    express: Express | None = None,
) -> Server:
    """A server for ``app``: on the unix socket ``path``, or on sockets given to ``serve``.

    ``express`` is offered every request before ``app`` is.
    """
    http = bounded_protocol(limits) if express is None else express_protocol(limits, express)
    return Server(
        uvicorn.Config(
            app,
            uds=path,
            http=http,
            ws="none",
            lifespan="on" if lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=path is None,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, int(limits.idle_s_max)),
            timeout_graceful_shutdown=max(1, int(drain_s_max)),
        )
    )


async def serve_until(
    stop: asyncio.Event, servers: Sequence[tuple[Server, list[socket] | None]]
) -> None:
    """Serve until ``stop`` is set or a server fails; then let requests in flight finish.

    Raises:
        RuntimeError: a server ended by itself.
    """
    tasks = [asyncio.create_task(server.serve(sockets=sockets)) for server, sockets in servers]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = not stopping.done()
    stopping.cancel()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    if failed:
        raise RuntimeError("a server ended by itself")


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def new_runner() -> asyncio.Runner:
    """A runner on uvloop, with as many file descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
