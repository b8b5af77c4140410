"""Rated totals and their explanation: what finance pulls."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import orjson
import polars as pl
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response, StreamingResponse

from api.models.instants import Instant
from api.models.page import Cursor, Limit
from api.models.parameters import FLAG
from api.paging import LIMIT_DEFAULT, decode_place, encode_place
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.totals import Question, RatedTotals, Totals
from catalog.clock import Micros, to_micros, to_rfc3339
from catalog.errors import InvalidRequest
from catalog.ids import ContractId, CustomerId
from catalog.keys import Scope
from catalog.periods import PeriodSpec
from rating.chunks import arrow_chunks, csv_chunks, ndjson_chunks, parquet_chunks
from rating.engine import ENGINE
from rating.rendering import as_text, checksum, instant_text


class Format(StrEnum):
    """The forms an answer comes in."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
RENDERERS: dict[Format, Callable[[pl.DataFrame], Iterator[bytes]]] = {
    Format.NDJSON: ndjson_chunks,
    Format.CSV: csv_chunks,
    Format.ARROW: arrow_chunks,
    Format.PARQUET: parquet_chunks,
}
CHECKSUMS_KEPT_MAX = 256

Period = Annotated[
    str, Query(description="YYYY, YYYY-Qn, YYYY-MM or YYYY-MM-DD", examples=["2026-01"])
]
AsOf = Annotated[
    Instant | None,
    Query(description="Answer as it was known then; default: everything acknowledged."),
]


class NotAcceptable(InvalidRequest):
    """The Accept header names no format that is offered."""

    code = "not_acceptable"


def instant(as_of: datetime | None, settled: int | None = None) -> Micros | None:
    """A query's instant; else, on a page after the first, the one its list was made at."""
    if as_of is not None:
        return to_micros(as_of)
    return None if settled is None else Micros(settled)


def chosen_format(format_: Format | None, accept: str) -> Format:
    """The format asked for by parameter, else by Accept, else JSON."""
    if format_ is not None:
        return format_
    for part in accept.split(","):
        wanted = part.split(";")[0].strip().lower()
        if wanted in {"", "*/*", "application/*"}:
            return Format.JSON
        for candidate, media_type in MEDIA_TYPES.items():
            if wanted == media_type.split(";")[0]:
                return candidate
    raise NotAcceptable(f"offered: {', '.join(MEDIA_TYPES.values())}")


def line_items(lines: pl.DataFrame) -> list[dict[str, Any]]:
    """LINES as JSON objects: decimals are strings, dimensions an object, counts numbers."""
    rows = as_text(lines).to_dicts()
    for row in rows:
        row["dimensions"] = orjson.loads(row["dimensions"])
        row["event_count"] = int(row["event_count"] or 0)
    return rows


def event_items(facts: pl.DataFrame) -> list[dict[str, Any]]:
    """FACTS as JSON objects, each naming its event by node and seq."""
    text = facts.select(
        "node",
        "seq",
        "subject",
        instant_text("time"),
        instant_text("received_at"),
        pl.col("value").cast(pl.String).str.strip_chars_end("0").str.strip_chars_end("."),
        "dimensions",
    )
    return [row | {"dimensions": orjson.loads(row["dimensions"])} for row in text.to_dicts()]


class _Checksums:
    """Checksums of the last answers.

    An answer as of an instant never changes, so every page of a list, and every format of it, has
    the one that was computed for the first.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Question, str] = OrderedDict()

    def of(self, question: Question, totals: Totals) -> str:
        """The checksum of ``totals``, the answer to ``question``. Call it in a thread."""
        key = replace(question, as_of=totals.as_of)
        found = self._known.get(key) or checksum(totals.lines)
        self._known[key] = found
        if len(self._known) > CHECKSUMS_KEPT_MAX:
            self._known.popitem(last=False)
        return found


def _file(form: Format, metadata: dict[str, str], totals: Totals) -> Response:
    headers = {f"Tallyman-{name.replace('_', '-')}": value for name, value in metadata.items()}
    body = RENDERERS[form](totals.lines)
    return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)


class TotalsRoutes:
    """The endpoints, over one :class:`RatedTotals`."""

    def __init__(self, totals: RatedTotals) -> None:
        self._totals = totals
        self._checksums = _Checksums()

    async def get_totals(
        self,
        period: Period,
        customer: str | None = None,
        contract: str | None = None,
        as_of: AsOf = None,
        zeros: Annotated[bool, FLAG] = False,
        format_: Annotated[Format | None, Query(alias="format")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        accept: Annotated[str, Header()] = "*/*",
    ) -> Response:
        """Lines of a period, in JSON page by page; the other formats come whole, as a stream."""
        form = chosen_format(format_, accept)
        start, settled = decode_place(cursor)
        question = Question(
            period=PeriodSpec.parse(period),
            customer=None if customer is None else CustomerId(customer),
            contract=None if contract is None else ContractId(contract),
            as_of=instant(as_of, settled),
            zeros=zeros,
        )
        answer = await self._totals.ask(question)
        metadata = {
            "period": period,
            "as_of": to_rfc3339(answer.as_of),
            "watermark": to_rfc3339(answer.watermark),
            "engine": ENGINE,
            "checksum": await asyncio.to_thread(self._checksums.of, question, answer),
        }
        if form is not Format.JSON:
            return _file(form, metadata, answer)
        end = start + limit
        more = encode_place(answer.as_of, end) if end < answer.lines.height else None
        items = line_items(answer.lines[start:end])
        return _json(metadata | {"items": items, "next_cursor": more})

    async def explain_line(self, line_id: str, as_of: AsOf = None) -> Response:
        """Price version and origin, tier by tier, each step before and after."""
        explained, adjustment = await self._totals.explain(line_id, as_of=instant(as_of))
        told = explained.as_dict() | ({} if adjustment is None else {"adjustment": adjustment})
        line = told["line"]
        return _json(told | {"line": line | {"dimensions": orjson.loads(line["dimensions"])}})

    async def line_events(
        self, line_id: str, as_of: AsOf = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        """The events a line counts, by time: pages of one list, as of the first page's instant."""
        start, settled = decode_place(cursor)
        told = await self._totals.events(line_id, as_of=instant(as_of, settled))
        end = start + limit
        more = encode_place(told.as_of, end) if end < told.facts.height else None
        items = event_items(told.facts[start:end])
        return _json({"items": items, "as_of": to_rfc3339(told.as_of), "next_cursor": more})


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type=MEDIA_TYPES[Format.JSON])


def build_router(*, totals: RatedTotals) -> APIRouter:
    """GET /v1/totals, and the explanation and events of a line."""
    routes = TotalsRoutes(totals)
    may_read = [Depends(require(Scope.FINANCE, Scope.READ))]
    router = APIRouter(route_class=StrictRoute, tags=["totals"], dependencies=may_read)
    for path, endpoint, summary in (
        ("/v1/totals", routes.get_totals, "Rated totals of a period"),
        ("/v1/totals/{line_id}/explain", routes.explain_line, "How a line came about"),
        ("/v1/totals/{line_id}/events", routes.line_events, "The events a line counts"),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], summary=summary)
    return router
