"""One gateway process: an event loop that owns a node's log and answers the callers.

Started by the supervisor as ``python -m api.gateway NODE FD``; FD is the listening socket all
gateways share, so a restart refuses no connection.
"""

from __future__ import annotations

import asyncio
import sys
from socket import socket

import structlog

from api.collecting import look_again, settle
from api.hot.dispatch import Hot
from api.logs import configure_logs
from api.parts import Gateway
from api.serving import Server, make_server, new_runner, serve_until, stop_on_signals
from api.settings import Settings, read_settings
from api.wiring.gateway import build_gateway
from catalog.errors import DomainError

log = structlog.get_logger()

DRAIN_SHARE = 0.5  # of the whole time a stop may take
SWITCH_S = 0.0005
"""The event loop waits no longer for the interpreter when another thread (the index's) is at it."""


async def run(gateway: Gateway, settings: Settings, listener: socket) -> None:
    """Serve until SIGTERM; then stop accepting, finish what is in flight, close the log.

    Raises:
        Exception: the log could not be opened, or broke. The supervisor starts it again, and
            recovery finds out what is durable.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    await gateway.snapshots.refresh()
    for start in gateway.starters:
        await start()
    tasks = [asyncio.create_task(_open(gateway), name="open")]
    tasks += [asyncio.create_task(work(), name=work.__qualname__) for work in gateway.background]
    for task in tasks:
        task.add_done_callback(lambda done: stop.set() if _failed(done) else None)
    log.info("gateway_listens", address=listener.getsockname())
    try:
        await serve_until(stop, _servers(gateway, settings, listener))
    finally:
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks)  # a log being opened has to be open before it can be closed
        await gateway.node.close()
        for close in reversed(gateway.closers):
            await close()
    for task in filter(_failed, tasks):
        await task  # raises why
    log.info("gateway_stopped")


def _servers(
    gateway: Gateway, settings: Settings, listener: socket
) -> list[tuple[Server, list[socket] | None]]:
    drain_s = settings.stop_s_max * DRAIN_SHARE
    public = make_server(
        gateway.app, limits=settings.limits, drain_s_max=drain_s, express=gateway.express
    )
    path = str(gateway.internal_socket)
    private = make_server(gateway.internal, limits=settings.limits, drain_s_max=drain_s, path=path)
    return [(public, [listener]), (private, None)]


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _open(gateway: Gateway) -> None:
    """Open the node beside the loop; its hot routes answer from then on."""
    make = await asyncio.to_thread(gateway.open_node)
    opened = await make()
    for (method, path), handler in opened.handlers.items():
        gateway.routes.add(Hot(method=method, path=path, handler=handler))
    gateway.node.opened(opened)
    # 180,000 objects, most of them modules, are here to stay.
    gateway.snapshots.subscribe(lambda _: look_again())
    settle()
    log.info("log_open")


def main() -> None:
    """Run the gateway named on the command line."""
    name, descriptor = sys.argv[1], int(sys.argv[2])
    settings = read_settings()
    configure_logs(settings, process=name)
    sys.setswitchinterval(SWITCH_S)
    listener = socket(fileno=descriptor)
    listener.setblocking(False)

    async def build_and_run() -> None:
        await run(build_gateway(settings, node=name), settings, listener)

    try:
        with new_runner() as runner:
            runner.run(build_and_run())
    except DomainError as error:
        log.error("gateway_failed", error=error.detail)  # noqa: TRY400  (its text says it all)
        sys.exit(1)


if __name__ == "__main__":
    main()
