"""Operations on what is derived: verify and rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.checks.report import Report
from api.rebuild import Stores, drop, progress_of
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.keys import Scope


class RebuildRequest(BaseModel):
    """What to drop and replay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stores: list[str] = Field(min_length=1, max_length=10, examples=[["clickhouse", "facts"]])


def build_router(*, verify: Callable[[], Report], stores: Stores) -> APIRouter:
    """The routes under ``/v1/admin`` for verify and rebuild.

    Args:
        verify: makes every check; called in a thread of its own, one at a time.
        stores: what can be rebuilt, by name; their readers run.
    """
    router = APIRouter(
        prefix="/v1/admin",
        tags=["operations"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.ADMIN))],
    )
    verifying = asyncio.Lock()

    @router.post("/verify")
    async def post_verify() -> Response:
        """Compare everything derived with the log, and the log with its manifests."""
        async with verifying:
            report = await asyncio.to_thread(verify)
        return _json(report.as_json())

    @router.post("/rebuild", status_code=202)
    async def post_rebuild(request: RebuildRequest) -> Response:
        """Drop the stores; their readers replay the log. ``GET`` tells how far they are."""
        await asyncio.to_thread(drop, request.stores, stores)
        return _json(await asyncio.to_thread(_progress, stores), status=202)

    @router.get("/rebuild")
    async def get_rebuild() -> Response:
        """How far every store is: records applied, and records there are."""
        return _json(await asyncio.to_thread(_progress, stores))

    return router


def _progress(stores: Stores) -> dict[str, object]:
    states = [progress_of(name, store) for name, store in sorted(stores.items())]
    return {"stores": [asdict(state) | {"level": state.level} for state in states]}


def _json(content: Mapping[str, object], *, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
