"""Operations: the sandbox's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Principal
from api.models.instants import Instant
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.clock import Micros, to_micros, to_rfc3339
from catalog.errors import Conflict
from catalog.keys import Scope
from storage.sql.audit import AuditLog, Change


class NotSandbox(Conflict):
    """Only a sandbox's clock can be moved."""

    code = "not_sandbox"


class MovableClock(Protocol):
    """A sandbox's clock (:class:`storage.clock.FileClock`)."""

    def now_us(self) -> Micros:
        """Where it stands."""
        ...

    def advance(self, now_us: int) -> Micros:
        """Move it forwards, for every process."""
        ...


class NewNow(BaseModel):
    """Where the clock is to stand: RFC 3339 with an offset, in the years events may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    now: Instant = Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC))


class Now(BaseModel):
    """Where the clock stands, in UTC."""

    now: str
    sandbox: bool = True


def build_router(
    *, clock: MovableClock | None, heartbeat: Callable[[], Awaitable[None]], audit: AuditLog
) -> APIRouter:
    """The routes under ``/v1/admin/clock``.

    Args:
        clock: the sandbox's clock; None outside of a sandbox.
        heartbeat: makes every node write a record at the new instant, so that the watermark
            follows.
        audit: told of every move.
    """
    router = APIRouter(
        prefix="/v1/admin/clock",
        tags=["admin"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.ADMIN))],
    )

    def sandbox_clock() -> MovableClock:
        if clock is None:
            raise NotSandbox("this service runs on the machine's clock")
        return clock

    @router.get("", summary="Where the sandbox's clock stands")
    async def show() -> Now:
        return Now(now=to_rfc3339(sandbox_clock().now_us()))

    @router.post("", summary="Move the sandbox's clock forwards; every timer follows")
    async def move(body: NewNow, admin: Annotated[Principal, Depends(require(Scope.ADMIN))]) -> Now:
        moved = await asyncio.to_thread(
            _move, sandbox_clock(), to_micros(body.now), audit, admin.key_id or None
        )
        await heartbeat()
        return Now(now=to_rfc3339(moved))

    return router


def _move(clock: MovableClock, to: Micros, audit: AuditLog, actor: str | None) -> Micros:
    """Move the clock, with an entry in the audit log unless it stands there already."""
    standing = clock.now_us()
    if to == standing:
        return clock.advance(to)
    change = Change(
        "clock", "sandbox", "move", {"from": to_rfc3339(standing), "to": to_rfc3339(to)}
    )
    return audit.record(change, actor=actor, at=to, doing=lambda: clock.advance(to))
