"""Looking events up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.conflicts import Conflicts
from api.eventlog import EventLog, EventPage, place_of, place_text
from api.models.listing import Listing
from api.models.page import Cursor, Limit
from api.paging import (
    LIMIT_DEFAULT,
    InvalidCursor,
    decode_cursor,
    encode_cursor,
)
from api.places import ITEMS, encode_places
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.clock import Micros, to_micros
from catalog.errors import NotFound
from catalog.events import UnmatchedReason
from catalog.ids import Seq
from catalog.keys import Scope
from storage.clickhouse.events import EventPlace, EventQuery

ID_BYTES_MAX = 256
SPLITS_MAX = 16
CURSOR_DIGITS_MAX = 19
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class EventParameters(Listing):
    """Which events; what is not given does not restrict."""

    subject: str | None = Field(None, min_length=1, max_length=ID_BYTES_MAX)
    type: str | None = Field(None, min_length=1, max_length=ID_BYTES_MAX)

    @property
    def query(self) -> EventQuery:
        """What the store is asked."""
        return EventQuery(
            subject=self.subject,
            type=self.type,
            since=_instant(self.since),
            until=_instant(self.until),
        )


class UnmatchedParameters(EventParameters):
    """Which unmatched events."""

    reason: UnmatchedReason | None = None


def build_router(*, events: EventLog, conflicts: Conflicts) -> APIRouter:
    """The routes under ``/v1/events`` that read."""
    router = APIRouter(
        prefix="/v1/events",
        tags=["events"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.READ))],
    )

    @router.get("")
    async def list_events(asked: Annotated[EventParameters, Query()]) -> Response:
        """Events as they were received, newest event time first, with what became of them."""
        after = _after(asked.cursor)
        return _page(await events.page(asked.query, limit=asked.limit, after=after))

    @router.get("/unmatched")
    async def list_unmatched(asked: Annotated[UnmatchedParameters, Query()]) -> Response:
        """Accepted events that are in no line, each with the reason."""
        return _page(
            await events.unmatched(
                asked.query, reason=asked.reason, limit=asked.limit, after=_after(asked.cursor)
            )
        )

    @router.get("/conflicts")
    async def list_conflicts(limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response:
        """Copies of one identity with other content that met only after both were accepted."""
        page = await conflicts.page(after=_compensation(cursor), limit=limit)
        after = None if page.after is None else encode_cursor(str(page.after))
        return _json({"items": page.items, "next_cursor": after})

    # The framework decodes %2F before it matches, so the handler reads the path as it was sent.
    @router.get("/{source}/{id:path}", openapi_extra=_IDENTITY)  # noqa: FAST003
    async def get_event(request: Request) -> Response:
        """One event by its identity. Slashes of a source may be sent as they are or as %2F."""
        return _json(await _found(events, _identities(request)))

    return router


def build_places_router(*, events: EventLog, since: Callable[[], Micros]) -> APIRouter:
    """What gateways ask about events that they do not know. They hide ``/internal`` from others.

    ``since`` is when the window began.
    """
    router = APIRouter(prefix="/internal", include_in_schema=False)

    @router.post("/places")
    async def find_places(request: Request) -> Response:
        items = ITEMS.decode(await request.body())
        content = encode_places(await events.places(items, since=since()))
        return Response(content, media_type="application/json")

    return router


_IDENTITY = {
    "parameters": [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("source", "id")
    ]
}


async def _found(events: EventLog, identities: list[tuple[str, str]]) -> Mapping[str, object]:
    """The first of ``identities`` that was accepted."""
    missing: NotFound | None = None
    for source, event_id in identities:
        try:
            return await events.find(source=source, event_id=event_id)
        except NotFound as error:
            missing = missing or error
    raise missing or NotFound("an event is named by /v1/events/{source}/{id}")


def _identities(request: Request) -> list[tuple[str, str]]:
    """What the path may mean: (source, id), the usual reading (the id has no slash) first."""
    raw = request.scope.get("raw_path") or request.url.path.encode()
    parts = raw.decode("latin-1").partition("?")[0].split("/")[3:]
    pairs = [
        (unquote("/".join(parts[:place])), unquote("/".join(parts[place:])))
        for place in range(len(parts) - 1, 0, -1)
    ]
    return [pair for pair in pairs if all(pair)][:SPLITS_MAX]


def _instant(moment: datetime | None) -> Micros | None:
    """Bounds beyond every event's time are as good as the nearest that any store can hold."""
    if moment is None:
        return None
    return to_micros(min(max(moment, EARLIEST), LATEST))


def _after(cursor: str | None) -> EventPlace | None:
    if cursor is None:
        return None
    try:
        return place_of(decode_cursor(cursor))
    except ValueError as error:
        raise InvalidCursor from error


def _compensation(cursor: str | None) -> Seq:
    if cursor is None:
        return Seq(0)
    text = decode_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) < CURSOR_DIGITS_MAX):
        raise InvalidCursor
    return Seq(int(text))


def _page(page: EventPage) -> Response:
    cursor = None if page.after is None else encode_cursor(place_text(page.after))
    return _json({"items": page.items, "next_cursor": cursor})


def _json(content: Mapping[str, object]) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    return Response(body, media_type="application/json")
