"""Usage of a meter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from api.models.instants import Instant
from api.models.listing import Listing
from api.paging import decode_place, encode_place
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.usage import MeterUsage, UsageQuery, moments
from catalog.clock import Micros, to_micros
from catalog.errors import FieldError, InvalidRequest
from catalog.ids import CustomerId, MeterId
from catalog.keys import Scope

GROUPS_MAX = 20
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class UsageParameters(Listing):
    """What of the meter is asked for."""

    window: str | None = Field(
        None, max_length=16, description="A row a window: 5m, 1h, 1d.", examples=["1d"]
    )
    customer: str | None = Field(None, max_length=128, description="Only what this one pays.")
    group_by: list[str] = Field(
        [], description="customer, subject and dimensions; repeated or separated by commas."
    )
    timezone: str | None = Field(
        None, max_length=64, description="Whose days and hours windows follow."
    )
    as_of: Instant | None = Field(None, description="Answer as it was known then.")


def build_router(*, usage: MeterUsage) -> APIRouter:
    """``GET /v1/meters/{meter}/usage``."""
    router = APIRouter(
        prefix="/v1/meters",
        tags=["usage"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.READ))],
    )

    @router.get("/{meter}/usage")
    async def get_usage(meter: str, asked: Annotated[UsageParameters, Query()]) -> Response:
        """What was used, exactly; without ``window`` and ``group_by`` one row for everything."""
        start, settled = decode_place(asked.cursor)
        found = await usage.measure(_query(meter, asked, settled))
        end = start + asked.limit
        more = end < len(found.rows)
        answer = {
            "meter": meter,
            **moments(found.settled),
            "items": found.rows[start:end],
            "next_cursor": encode_place(found.settled.as_of, end) if more else None,
        }
        body = orjson.dumps(answer, option=orjson.OPT_UTC_Z)
        return Response(body, media_type="application/json")

    return router


def _query(meter: str, asked: UsageParameters, settled: int | None) -> UsageQuery:
    """The question; a page after the first (``settled``) is as of the first one's instant."""
    return UsageQuery(
        meter=MeterId(meter),
        since=_instant(asked.since),
        until=_instant(asked.until),
        window=asked.window,
        customer=None if asked.customer is None else CustomerId(asked.customer),
        group_by=_groups(asked.group_by),
        timezone=_zone(asked.timezone),
        as_of=_as_of(asked.as_of, settled),
    )


def _as_of(asked: datetime | None, settled: int | None) -> Micros | None:
    if asked is not None:
        return to_micros(asked)
    return None if settled is None else Micros(settled)


def _groups(given: list[str]) -> tuple[str, ...]:
    names = [name.strip() for part in given for name in part.split(",")]
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


def _instant(moment: datetime | None) -> Micros | None:
    """Bounds beyond every event's time are as good as the nearest that any store can hold."""
    if moment is None:
        return None
    return to_micros(min(max(moment, EARLIEST), LATEST))
