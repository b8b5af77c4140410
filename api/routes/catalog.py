"""The catalog over HTTP: every kind of object a chain of versions, and whole documents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.auth import Principal
from api.editing import Editor, LinesToRerate, Noted, version_view
from api.freshness import AsOfInFuture
from api.models.catalog import ApplyRequest, read_apply_request
from api.models.instants import Instant
from api.models.page import Cursor, Limit, paginate
from api.openapi import request_body
from api.paging import LIMIT_DEFAULT
from api.routes.bodies import read_json
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.changes import Unsupported
from catalog.clock import Clock, Micros, to_micros, to_rfc3339
from catalog.errors import NotFound
from catalog.grammar import Value
from catalog.history import chains_of
from catalog.ids import Kind
from catalog.snapshot import Catalog, Chain
from storage.sql.statements import StatementStore

ObjectId = Annotated[str, Path(alias="id", description="The object's id.", examples=["acme"])]
AsOf = Annotated[
    Instant | None,
    Query(description="The catalog as it was recorded then; default: as it is."),
]
JsonBody = Annotated[object, Depends(read_json)]
Reader = Annotated[Principal, Depends(require("read", "catalog"))]
Writer = Annotated[Principal, Depends(require("catalog"))]


def build_router(
    *,
    store: StatementStore,
    clock: Clock,
    unsupported: Unsupported,
    lines_to_rerate: LinesToRerate | None = None,
    answered: Callable[[], Micros] | None = None,
    noted: Noted | None = None,
) -> APIRouter:
    """The routes of every kind and ``/v1/catalog``.

    Args:
        store: the catalog's statements.
        clock: tells what ``as_of`` lies ahead, and what is over.
        unsupported: what the engines cannot do about a price or contract.
        lines_to_rerate: counts the open lines that differ between two catalogs.
        answered: the largest ``as_of`` ever answered with; edits are recorded after it.
        noted: what apply warns of about the contracts it states.
    """
    router = APIRouter(prefix="/v1", tags=["catalog"], route_class=StrictRoute)
    editor = Editor(
        store,
        clock=clock,
        unsupported=unsupported,
        lines_to_rerate=lines_to_rerate,
        answered=answered,
        noted=noted,
    )
    views = _Views(store, clock)
    for kind in Kind:
        _add_reads(router, kind, views)
        _add_writes(router, kind, editor)

    @router.post(
        "/catalog",
        summary="Apply a whole document, or see what it would change",
        openapi_extra=request_body(ApplyRequest),
    )
    def apply(tree: JsonBody, writer: Writer) -> Response:
        return _json(editor.apply(read_apply_request(tree), actor=writer.key_id or None))

    return router


class _Views:
    """The catalog as asked for, and the objects in it that are not retired."""

    def __init__(self, store: StatementStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def catalog(self, as_of: datetime | None) -> Catalog:
        current = self._store.current()
        if as_of is None:
            return current
        asked, latest = to_micros(as_of), max(self._clock.now_us(), current.recorded_at)
        if asked > latest:
            raise AsOfInFuture(f"as_of is later than now, {to_rfc3339(latest)}")
        return self._store.as_of(asked)

    def chains(self, kind: Kind, catalog: Catalog) -> dict[str, Chain[Value]]:
        retired = self._store.retired(kind, upto=catalog.revision)
        held = chains_of(catalog, kind)
        return {name: held[name] for name in sorted(held) if name not in retired}

    def chain(self, kind: Kind, name: str, catalog: Catalog) -> Chain[Value]:
        """The chain of one object, retired or not.

        Raises:
            NotFound: it never was.
        """
        found = chains_of(catalog, kind).get(name)
        if found is None:
            raise NotFound(f"there is no '{name}' among {kind.value}")
        return found

    def live_chain(self, kind: Kind, name: str, catalog: Catalog) -> Chain[Value]:
        """The chain of one object that is not retired.

        Raises:
            NotFound: it never was, or is no more.
        """
        if name in self._store.retired(kind, upto=catalog.revision, id=name):
            raise NotFound(f"'{name}' among {kind.value} is retired")
        return self.chain(kind, name, catalog)


def _add_reads(router: APIRouter, kind: Kind, views: _Views) -> None:
    @router.get(f"/{kind.value}", summary=f"List {kind.value}, by id", name=f"list_{kind.value}")
    def listing(
        _: Reader, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, as_of: AsOf = None
    ) -> Response:
        chains = views.chains(kind, views.catalog(as_of))
        page = paginate(list(chains), limit, cursor, key=str)
        items = [version_view(kind, chains[name].versions[-1]) for name in page.items]
        return _json({"items": items, "next_cursor": page.next_cursor})

    @router.get(
        f"/{kind.value}/{{id}}", summary=f"One of the {kind.value}", name=f"get_{kind.value}"
    )
    def one(id_: ObjectId, _: Reader, as_of: AsOf = None) -> Response:
        chain = views.live_chain(kind, id_, views.catalog(as_of))
        return _json(version_view(kind, chain.versions[-1]))

    @router.get(
        f"/{kind.value}/{{id}}/versions",
        summary="What holds when, in order of effective time; retired objects too",
        name=f"versions_of_{kind.value}",
    )
    def versions(
        id_: ObjectId,
        _: Reader,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        as_of: AsOf = None,
    ) -> Response:
        chain = views.chain(kind, id_, views.catalog(as_of))
        page = paginate(chain.versions, limit, cursor)
        items = [version_view(kind, version) for version in page.items]
        return _json({"items": items, "next_cursor": page.next_cursor})


def _add_writes(router: APIRouter, kind: Kind, editor: Editor) -> None:
    @router.put(
        f"/{kind.value}/{{id}}",
        summary="State an object: from the beginning, or from effective_from on",
        name=f"put_{kind.value}",
        openapi_extra=request_body({"type": "object"}),
        responses={201: {"description": "It is new."}},
    )
    def put(id_: ObjectId, tree: JsonBody, writer: Writer) -> Response:
        outcome = editor.put(kind, id_, tree, actor=writer.key_id or None)
        return _json(outcome.view, status=201 if outcome.created else 200)

    @router.delete(
        f"/{kind.value}/{{id}}",
        summary="Retire an object, from now on",
        name=f"retire_{kind.value}",
        status_code=204,
    )
    def retire(id_: ObjectId, writer: Writer) -> Response:
        editor.retire(kind, id_, actor=writer.key_id or None)
        return Response(status_code=204)


def _json(document: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type="application/json")
