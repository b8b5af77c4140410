"""Months over HTTP: what they come to, and closing them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from api.auth import Principal
from api.closing import Closing
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.keys import Scope

Month = Annotated[str, Path(description="YYYY-MM", examples=["2026-01"], max_length=32)]
Writer = Annotated[Principal, Depends(require(Scope.FINANCE))]


def build_router(*, closing: Closing) -> APIRouter:
    """GET /v1/periods/{p} and POST /v1/periods/{p}/close."""
    router = APIRouter(prefix="/v1/periods", route_class=StrictRoute, tags=["periods"])

    @router.get(
        "/{period}",
        summary="What a month comes to, open or closed",
        dependencies=[Depends(require(Scope.FINANCE, Scope.READ))],
    )
    async def get_period(period: Month) -> Response:
        return _json(await closing.period(period))

    @router.post("/{period}/close", summary="Close a month; again: the same answer")
    async def close_period(period: Month, writer: Writer) -> Response:
        return _json(await closing.close(period, actor=writer.key_id or None))

    return router


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
