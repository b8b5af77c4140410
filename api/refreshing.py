"""Writes through a gateway are seen by whatever their caller does next, at any gateway."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from api.relay import Relay
from api.siblings import Siblings
from api.snapshots import Snapshots

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class RefreshingRelay:
    """A relay whose writes are seen by whatever the caller does next, at any gateway.

    Before the answer to a relayed write leaves, the snapshots of every gateway on this machine
    are read again.
    """

    def __init__(self, *, relay: Relay, snapshots: Snapshots, siblings: Siblings) -> None:
        self._relay = relay
        self._snapshots = snapshots
        self._siblings = siblings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request."""
        if scope["method"] in _SAFE:
            await self._relay(scope, receive, send)
            return

        async def refresh_first(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                await asyncio.gather(self._snapshots.refresh(), self._siblings.refresh())
            await send(message)

        await self._relay(scope, receive, refresh_first)
