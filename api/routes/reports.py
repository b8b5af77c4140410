"""Reports over HTTP: revenue, what is unbilled, adjustments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import orjson
import polars as pl
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from api.models.page import Cursor, Limit
from api.paging import LIMIT_DEFAULT, decode_place, encode_place
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.routes.totals import AsOf, Period, instant
from api.totals import Question, RatedTotals, Totals
from catalog.clock import to_rfc3339
from catalog.ids import CustomerId
from catalog.keys import Scope
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.reporting import REPORTED, By, adjustments, revenue, unbilled
from outbound.cells import as_safe_csv
from outbound.rendering import as_text
from storage.sql.reports import SqlReports


class Format(StrEnum):
    """The forms a report comes in."""

    JSON = "json"
    CSV = "csv"


Customer = Annotated[str | None, Query(description="Only this customer.", examples=["acme"])]
Form = Annotated[Format, Query(alias="format", description="CSV comes whole.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every report is asked: of which lines, in which form, which page of it."""

    period: str
    customer: str | None
    as_of: datetime | None
    form: Format
    limit: int
    cursor: str | None

    @property
    def span(self) -> PeriodSpec:
        """The period, read."""
        return PeriodSpec.parse(self.period)


def _asked(
    period: Period,
    customer: Customer = None,
    as_of: AsOf = None,
    form: Form = Format.JSON,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Asked:
    return Asked(
        period=period, customer=customer, as_of=as_of, form=form, limit=limit, cursor=cursor
    )


AskedReport = Annotated[Asked, Depends(_asked)]


class ReportRoutes:
    """The endpoints, over the rated totals and the books."""

    def __init__(
        self, totals: RatedTotals, books: SqlReports, catalog: Callable[[], Catalog]
    ) -> None:
        self._totals = totals
        self._books = books
        self._catalog = catalog

    async def revenue(
        self,
        asked: AskedReport,
        by: Annotated[By, Query(description="What it is cut by.")] = By.DAY,
    ) -> Response:
        """Closed and open amounts by day, accounting date, product or customer."""
        zone = self._catalog().timezone
        found = await self._ask(asked)
        return _answer(revenue(_reported(found), by, timezone=zone), found, asked)

    async def unbilled(self, asked: AskedReport) -> Response:
        """What is on no invoice that stands now, by customer: open lines, and closed ones."""
        found = await self._ask(asked)
        span = asked.span
        invoiced = await asyncio.to_thread(self._books.invoiced, since=span.first, until=span.until)
        return _answer(unbilled(_reported(found), invoiced=invoiced), found, asked)

    async def adjustments(self, asked: AskedReport) -> Response:
        """Adjustment lines, each with what it adjusts and why."""
        found = await self._ask(asked)
        return _answer(adjustments(_reported(found)), found, asked)

    async def _ask(self, asked: Asked) -> Totals:
        wanted = None if asked.customer is None else CustomerId(asked.customer)
        as_of = instant(asked.as_of, decode_place(asked.cursor)[1])
        return await self._totals.ask(Question(period=asked.span, customer=wanted, as_of=as_of))


def _reported(totals: Totals) -> pl.DataFrame:
    both = totals.lines.with_columns(totals.billing["accounting_date"])
    return both.select(REPORTED.names())


def _answer(rows: pl.DataFrame, totals: Totals, asked: Asked) -> Response:
    text = as_text(rows)
    if asked.form is Format.CSV:
        numbers = {name for name, dtype in rows.schema.items() if dtype.is_numeric()}
        content = as_safe_csv(text, numbers=frozenset(numbers))
        headers = {"Tallyman-As-Of": to_rfc3339(totals.as_of), "Tallyman-Period": asked.period}
        return Response(content, media_type="text/csv; charset=utf-8", headers=headers)
    start, _ = decode_place(asked.cursor)
    end = start + asked.limit
    whole = [name for name, dtype in rows.schema.items() if dtype.is_integer()]
    items = text.with_columns(rows[name] for name in whole)[start:end].to_dicts()
    for item in items:
        if "dimensions" in item:
            item["dimensions"] = orjson.loads(item["dimensions"])
    document = {
        "period": asked.period,
        "as_of": to_rfc3339(totals.as_of),
        "watermark": to_rfc3339(totals.watermark),
        "items": items,
        "next_cursor": encode_place(totals.as_of, end) if end < rows.height else None,
    }
    return Response(orjson.dumps(document), media_type="application/json")


def build_router(
    *, totals: RatedTotals, books: SqlReports, catalog: Callable[[], Catalog]
) -> APIRouter:
    """GET ``/v1/reports/…``."""
    routes = ReportRoutes(totals, books, catalog)
    may_read = [Depends(require(Scope.FINANCE, Scope.READ))]
    router = APIRouter(
        prefix="/v1/reports", route_class=StrictRoute, tags=["reports"], dependencies=may_read
    )
    for path, endpoint, summary in (
        ("/revenue", routes.revenue, "Revenue by day, accounting date, product or customer"),
        ("/unbilled", routes.unbilled, "What is on no invoice, by customer"),
        ("/adjustments", routes.adjustments, "Adjustment lines of a period"),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], summary=summary)
    return router
