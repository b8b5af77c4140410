"""Usage of a meter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from api.models.page import (
    LIMIT_DEFAULT,
    Cursor,
    InvalidCursor,
    Limit,
    decode_cursor,
    encode_cursor,
)
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.usage import MeterUsage, UsageQuery, moments
from catalog.clock import Micros, to_micros
from catalog.errors import FieldError, InvalidRequest
from catalog.ids import CustomerId, MeterId
from catalog.keys import Scope

GROUPS_MAX = 20
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
PLACE_LIMIT = 2**53

Since = Annotated[AwareDatetime | None, Query(alias="from", description="Inclusive.")]
Until = Annotated[AwareDatetime | None, Query(alias="to", description="Exclusive.")]
Window = Annotated[
    str | None,
    Query(max_length=16, description="A row a window: 5m, 1h, 1d.", examples=["1d"]),
]
GroupBy = Annotated[
    list[str] | None,
    Query(description="customer, subject and dimensions; repeated or separated by commas."),
]
Customer = Annotated[str | None, Query(max_length=128, description="Only what this one pays.")]
Timezone = Annotated[
    str | None, Query(max_length=64, description="Whose days and hours windows follow.")
]


def build_router(*, usage: MeterUsage) -> APIRouter:
    """``GET /v1/meters/{meter}/usage``."""
    router = APIRouter(
        prefix="/v1/meters",
        tags=["usage"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.READ))],
    )

    @router.get("/{meter}/usage")
    async def get_usage(
        meter: str,
        since: Since = None,
        until: Until = None,
        window: Window = None,
        customer: Customer = None,
        group_by: GroupBy = None,
        timezone: Timezone = None,
        as_of: AwareDatetime | None = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        """What was used, exactly; without ``window`` and ``group_by`` one row for everything."""
        start, settled = _place(cursor)
        query = UsageQuery(
            meter=MeterId(meter),
            since=_instant(since),
            until=_instant(until),
            window=window,
            customer=None if customer is None else CustomerId(customer),
            group_by=_groups(group_by),
            timezone=_zone(timezone),
            as_of=settled if as_of is None else to_micros(as_of.astimezone(UTC)),
        )
        found = await usage.measure(query)
        shown = found.rows[start : start + limit]
        more = start + limit < len(found.rows)
        after = encode_cursor(f"{found.settled.as_of}/{start + limit}") if more else None
        answer = {
            "meter": meter,
            **moments(found.settled),
            "items": shown,
            "next_cursor": after,
        }
        return Response(
            orjson.dumps(answer, option=orjson.OPT_UTC_Z), media_type="application/json"
        )

    return router


def _groups(given: list[str] | None) -> tuple[str, ...]:
    names = [name.strip() for part in given or () for name in part.split(",")]
    if len(names) > GROUPS_MAX or not all(names):
        error = FieldError(pointer="?group_by", detail=f"at most {GROUPS_MAX} names, none empty")
        raise InvalidRequest("group_by cannot be read", errors=[error])
    return tuple(dict.fromkeys(names))


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        field = FieldError(pointer="?timezone", detail="not an IANA time zone")
        raise InvalidRequest(f"there is no time zone {name[:64]!r}", errors=[field]) from error


def _instant(moment: AwareDatetime | None) -> Micros | None:
    """Bounds beyond every event's time are as good as the nearest that any store can hold."""
    if moment is None:
        return None
    return to_micros(min(max(moment, EARLIEST), LATEST).astimezone(UTC))


def _place(cursor: str | None) -> tuple[int, Micros | None]:
    """Where a page begins, and the instant its list was made at."""
    if cursor is None:
        return 0, None
    try:
        as_of, start = map(int, decode_cursor(cursor).split("/"))
    except ValueError as error:
        raise InvalidCursor from error
    if not (0 <= start < PLACE_LIMIT and 0 <= as_of < PLACE_LIMIT):
        raise InvalidCursor
    return start, Micros(as_of)
