"""A gateway's own log, opened beside the event loop, and its heartbeats.

Recovering a log takes as long as it takes. Meanwhile the gateway already answers (health, the
relayed routes), and says what it cannot do yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from catalog.clock import Clock, Micros
from catalog.errors import Unavailable
from ingest.ports import LogUnavailable
from ingest.voids import VoidItem, VoidOutcome
from storage.log.node_log import LogFull

log = structlog.get_logger()


class Pipeline(Protocol):
    """What the gateway itself asks of its :class:`ingest.commit.Ingestor`."""

    async def heartbeat(self) -> Micros:
        """Append and sync a heartbeat; answers its ``received_at``."""
        ...

    async def void(self, items: list[VoidItem]) -> VoidOutcome:
        """Void what the node accepted within the window."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNode:
    """A log that is open for writing.

    ``handlers`` are the hot routes it serves, by (method, path). ``last_received_at`` is the
    newest record's. ``close`` ends the pipeline (what was submitted is committed) and the log.
    """

    pipeline: Pipeline
    last_received_at: Callable[[], Micros]
    handlers: dict[tuple[str, str], ASGIApp]
    close: Callable[[], Awaitable[None]]


class Pending:
    """Stands in for a hot route until the log is open."""

    async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        """Refuse.

        Raises:
            LogUnavailable: always.
        """
        raise LogUnavailable("the log is being opened")


class Node:
    """The node of this process, once it is open, and its heartbeat.

    The heartbeat keeps it from holding the watermark back when nothing is sent.
    """

    def __init__(self, *, clock: Clock, sandbox: bool, heartbeat_s: float) -> None:
        self._clock = clock
        self._sandbox = sandbox
        self._heartbeat_s = heartbeat_s
        self._opened: OpenNode | None = None
        self.failure: str | None = "the log is being opened"

    def opened(self, node: OpenNode) -> None:
        """The log is open from now on."""
        self._opened = node
        self.failure = None

    async def check(self) -> str | None:
        """Why the log cannot be written, or None."""
        return self.failure

    async def heartbeat(self) -> Micros:
        """Write one now.

        Raises:
            LogUnavailable: the log is not open, or failed.
        """
        if self._opened is None:
            raise LogUnavailable(self.failure or "the log is not open")
        try:
            received_at = await self._opened.pipeline.heartbeat()
        except LogUnavailable as error:
            self.failure = error.detail
            raise
        self.failure = None
        return received_at

    async def void(self, items: list[VoidItem]) -> VoidOutcome:
        """Void what this node accepted, for a sibling that was asked.

        Raises:
            Backpressure, LogUnavailable: it cannot now.
        """
        if self._opened is None:
            raise LogUnavailable(self.failure or "the log is not open")
        return await self._opened.pipeline.void(items)

    async def beat(self) -> None:
        """For ever: write a heartbeat when the clock is well ahead of the log.

        A sandbox's clock stands still between two moves, so there is one after each move only.

        Raises:
            LogUnavailable: the log is broken. Only opening it again can tell what is durable.
        """
        while True:
            await asyncio.sleep(self._heartbeat_s / 4)
            if self._opened is None or not self._due(self._opened):
                continue
            try:
                await self.heartbeat()
            except (LogFull, Unavailable) as error:  # it goes on when there is room again
                log.warning("heartbeat_failed", error=error.detail)

    async def close(self) -> None:
        """Close the log, if it is open."""
        opened, self._opened = self._opened, None
        self.failure = "the gateway is stopping"
        if opened is not None:
            await opened.close()

    def _due(self, node: OpenNode) -> bool:
        idle_us = self._clock.now_us() - node.last_received_at()
        return idle_us > 0 if self._sandbox else idle_us >= self._heartbeat_s * 1_000_000
