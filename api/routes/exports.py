"""Exports over HTTP: destinations, their runs, and running and replaying them."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from api.auth import Principal
from api.exporting.exports import Exports
from api.models.exports import DESTINATION, NEW_DESTINATION
from api.models.page import Cursor, Limit, paginate
from api.models.parameters import DIGITS
from api.openapi import request_body
from api.paging import LIMIT_DEFAULT, InvalidCursor, decode_cursor, encode_cursor
from api.routes.bodies import read_json
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.errors import FieldError, InvalidRequest
from catalog.keys import Scope

ExportId = Annotated[str, Path(description="The export's id.", examples=["ledger"])]
Number = Annotated[int, DIGITS, Path(ge=1, le=2**53, description="The run's number.", examples=[1])]
JsonBody = Annotated[object, Depends(read_json)]
Reader = Annotated[Principal, Depends(require(Scope.FINANCE, Scope.READ))]
Writer = Annotated[Principal, Depends(require(Scope.FINANCE))]


def build_router(*, exports: Exports) -> APIRouter:
    """``/v1/exports``."""
    router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=StrictRoute)
    _add_destinations(router, exports)
    _add_runs(router, exports)
    return router


def _add_destinations(router: APIRouter, exports: Exports) -> None:
    @router.get("", summary="The declared destinations, by id")
    def list_exports(_: Reader, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response:
        page = paginate(exports.all(), limit, cursor, key=lambda view: str(view["id"]))
        return _json({"items": page.items, "next_cursor": page.next_cursor})

    @router.post(
        "",
        summary="Declare a new destination",
        openapi_extra=request_body(NEW_DESTINATION),
        status_code=201,
    )
    def create_export(tree: JsonBody, writer: Writer) -> Response:
        if not isinstance(tree, dict) or not isinstance(tree.get("id"), str):
            missing = FieldError(pointer="/id", detail="'id' is missing: a text")
            raise InvalidRequest("the export has no id", errors=[missing])
        body = {name: value for name, value in tree.items() if name != "id"}
        return _json(exports.create(tree["id"], body, actor=writer.key_id or None), status=201)

    @router.get("/{export}", summary="One destination: declaration, position, runs by status")
    def get_export(export: ExportId, _: Reader) -> Response:
        return _json(exports.get(export))

    @router.put(
        "/{export}",
        summary="Declare a destination, or what it is from now on",
        openapi_extra=request_body(DESTINATION),
        responses={201: {"description": "It is new."}},
    )
    def put_export(export: ExportId, tree: JsonBody, writer: Writer) -> Response:
        view, created = exports.put(export, tree, actor=writer.key_id or None)
        return _json(view, status=201 if created else 200)

    @router.delete("/{export}", summary="End a destination; its runs stay", status_code=204)
    def delete_export(export: ExportId, writer: Writer) -> Response:
        exports.retire(export, actor=writer.key_id or None)
        return Response(status_code=204)


def _add_runs(router: APIRouter, exports: Exports) -> None:
    @router.post("/{export}/run", summary="Hand over everything there is now")
    def run_export(export: ExportId, writer: Writer) -> Response:
        return _json(exports.run(export, actor=writer.key_id or None))

    @router.get("/{export}/runs", summary="What was handed over, the newest first")
    def list_runs(
        export: ExportId, _: Reader, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        items = exports.runs(export, before=_before(cursor), limit=limit + 1)
        shown = items[:limit]
        more = encode_cursor(str(shown[-1]["number"])) if len(items) > limit else None
        return _json({"items": shown, "next_cursor": more})

    @router.post(
        "/{export}/runs/{number}/replay", summary="Deliver a run again: the same bytes, the same id"
    )
    def replay_run(export: ExportId, number: Number, writer: Writer) -> Response:
        return _json(exports.replay(export, number, actor=writer.key_id or None))


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = decode_cursor(cursor)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InvalidCursor
    return int(text)


def _json(document: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type="application/json")
