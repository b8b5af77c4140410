"""What a gateway and a worker are made of: built by ``api.wiring``, run by their processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastapi import APIRouter  # a gateway never loads it
    from starlette.types import ASGIApp

    from api.hot.dispatch import Dispatcher, Routes
    from api.hot.express import Express
    from api.node import Node, OpenNode
    from api.snapshots import Snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Everything a gateway runs, built by ``api.wiring.gateway``.

    ``open_node`` blocks (it recovers the log) and is called in a thread; ``mount`` then makes
    the node's parts on the event loop. ``starters`` run before anything is served, ``background``
    all the time, ``closers`` last to first at the end.
    """

    name: str
    app: Dispatcher
    express: Express
    internal: ASGIApp
    internal_socket: Path
    routes: Routes
    node: Node
    open_node: Callable[[], Callable[[], Awaitable[OpenNode]]]
    snapshots: Snapshots
    starters: tuple[Callable[[], Awaitable[None]], ...]
    background: tuple[Callable[[], Coroutine[object, object, None]], ...]
    closers: tuple[Callable[[], Awaitable[None]], ...]


class Service(Protocol):
    """Something that runs in the worker beside the requests: a reader, a poller."""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        ...

    def end(self) -> None:
        """Begin nothing new; returns at once."""
        ...

    def stop(self) -> None:
        """Checkpoint and end; returns when it has."""
        ...


Check = Callable[[], str | None]
"""Why a part is not ready, or None. Called from a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Everything a worker runs, built by ``api.wiring.worker``.

    Services start in order. At the end all are told at once, so that none works on while another
    is waited for, and stop in reverse; then ``closers`` run last to first.
    ``hot_paths`` are the OpenAPI path items of what the gateways answer themselves.
    """

    socket: Path
    routers: tuple[APIRouter, ...]
    services: tuple[Service, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    closers: tuple[Callable[[], None], ...] = ()
    hot_paths: Mapping[str, Any] = field(default_factory=dict)
