"""Invoices over HTTP: listed, looked at, printed, issued, voided; and what is unbilled now."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import orjson
import polars as pl
from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.auth import Principal
from api.invoice_list import Document, InvoiceList
from api.invoices import Invoices, Wanted
from api.issuing import Issuing
from api.models.page import Cursor, Limit, Page
from api.paging import LIMIT_DEFAULT, decode_place, encode_place
from api.printing import printed
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.routes.totals import Period, instant, line_items
from api.totals import Totals
from api.wording import wording_of
from catalog.clock import to_rfc3339
from catalog.ids import ContractId, CustomerId
from catalog.keys import Scope
from catalog.periods import PeriodSpec
from catalog.pricebooks import Timing
from invoicing.closing import amounts_of
from invoicing.drafts import Billed, Invoice, InvoiceStatus
from invoicing.ports import DocumentKind
from rating.engine import ENGINE
from rating.frames import LINES
from rating.rendering import instant_text

HTML = "text/html"
Reader = Depends(require(Scope.FINANCE, Scope.READ))
Writer = Annotated[Principal, Depends(require(Scope.FINANCE))]


def as_json(invoice: Invoice) -> dict[str, Any]:
    """An invoice as JSON: amounts are strings with the currency's minor digits."""
    document = asdict(invoice)
    for name in ("subtotal", "tax", "total"):
        document[name] = f"{document[name]:f}"
    document["lines"] = list(invoice.lines)
    return document


def billed_of(totals: Totals) -> list[Billed]:
    """The billing period of each line, as text."""
    return totals.billing.select(instant_text("billing_start"), instant_text("billing_end")).rows()


def document_json(document: Document) -> dict[str, Any]:
    """A document with its lines as JSON."""
    assert document.lines is not None
    return {**document.head, "lines": line_items(document.lines)}


class InvoiceFormat(StrEnum):
    """The forms an invoice comes in."""

    JSON = "json"
    HTML = "html"


class IssueRequest(BaseModel):
    """Which drafts to issue: those of a period that are due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    period: str = Field(examples=["2026-01"])
    customer: str | None = None
    contract: str | None = None
    timing: Timing | None = None

    def wanted(self) -> Wanted:
        """The same as a question."""
        return Wanted(
            period=PeriodSpec.parse(self.period),
            customer=None if self.customer is None else CustomerId(self.customer),
            contract=None if self.contract is None else ContractId(self.contract),
            timing=None if self.timing is None else self.timing.value,
        )


class VoidRequest(BaseModel):
    """Why an invoice is taken back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str | None = Field(default=None, max_length=1_000)


class InvoiceRoutes:
    """The endpoints."""

    def __init__(self, invoices: Invoices, issuing: Issuing) -> None:
        self._invoices = invoices
        self._issuing = issuing

    async def get_invoices(
        self,
        period: Period,
        customer: str | None = None,
        contract: str | None = None,
        status: InvoiceStatus | None = None,
        timing: Timing | None = None,
        kind: DocumentKind = DocumentKind.INVOICE,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[dict[str, Any]]:
        """Documents that count in a period: drafts, issued and void ones; or credit notes."""
        start, settled = decode_place(cursor)
        wanted = Wanted(
            period=PeriodSpec.parse(period),
            customer=None if customer is None else CustomerId(customer),
            contract=None if contract is None else ContractId(contract),
            status=status,
            timing=None if timing is None else timing.value,
            kind=kind,
            as_of=instant(None, settled),
        )
        found = await self._invoices.listed(wanted)
        end = start + limit
        more = encode_place(found.as_of, end) if end < len(found) else None
        items = await asyncio.to_thread(self._items, found, start, end)
        return Page(items=items, next_cursor=more)

    def _items(self, found: InvoiceList, start: int, end: int) -> list[dict[str, Any]]:
        shown = self._invoices.with_lines(*found.documents(start, end))
        return [document_json(each) for each in shown]

    async def get_invoice(
        self,
        invoice: str,
        format_: Annotated[InvoiceFormat | None, Query(alias="format")] = None,
        accept: Annotated[str, Header()] = "*/*",
    ) -> Response:
        """One document, as JSON or as a page to print."""
        found = await self._invoices.invoice(invoice)
        wants_page = accept.split(",")[0].split(";")[0].strip().lower() == HTML
        if format_ is InvoiceFormat.HTML or (format_ is None and wants_page):
            catalog = await self._invoices.catalog_of(found)
            page = printed(document_json(found), wording_of(document_json(found), catalog))
            return Response(page, media_type=f"{HTML}; charset=utf-8")
        return _json(document_json(found))

    async def issue(self, invoice: str, writer: Writer) -> Response:
        """Number a draft for good. Again: the same answer."""
        found = await self._issuing.issue(invoice, actor=writer.key_id or None)
        return _json(document_json(found))

    async def issue_due(self, body: IssueRequest, writer: Writer) -> Response:
        """Issue every draft that is due."""
        found = await self._issuing.issue_due(body.wanted(), actor=writer.key_id or None)
        return _json(asdict(found))

    async def void(self, invoice: str, writer: Writer, body: VoidRequest | None = None) -> Response:
        """Take an issued invoice back by a credit note. Again: the same answer."""
        reason = body.reason if body else None
        found = await self._issuing.void(invoice, reason=reason, actor=writer.key_id or None)
        return _json(document_json(found))

    async def current(
        self, customer: str, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response:
        """What a customer has used and not been billed for, as of now."""
        start, _ = decode_place(cursor)
        lines, settled = await self._invoices.current(CustomerId(customer))
        end = start + limit
        more = encode_place(settled.as_of, end) if end < lines.height else None
        return _json(
            {
                "customer": customer,
                "as_of": to_rfc3339(settled.as_of),
                "watermark": to_rfc3339(settled.watermark),
                "engine": ENGINE,
                "amounts": amounts_of(lines),
                "open": amounts_of(lines.filter(pl.col("sequence").is_null())),
                "closed": amounts_of(lines.filter(pl.col("sequence").is_not_null())),
                "items": line_items(lines[start:end].select(list(LINES))),
                "next_cursor": more,
            }
        )


def build_router(*, invoices: Invoices, issuing: Issuing) -> APIRouter:
    """GET and POST under /v1/invoices, and /v1/customers/{c}/current."""
    routes = InvoiceRoutes(invoices, issuing)
    router = APIRouter(route_class=StrictRoute, tags=["invoices"])
    for path, endpoint, summary in (
        ("/v1/invoices", routes.get_invoices, "Invoices of a period; drafts until issued"),
        ("/v1/invoices/{invoice}", routes.get_invoice, "One invoice, as JSON or to print"),
        ("/v1/customers/{customer}/current", routes.current, "What is unbilled now"),
    ):
        router.add_api_route(
            path, endpoint, methods=["GET"], summary=summary, dependencies=[Reader]
        )
    for path, post, summary in (
        ("/v1/invoices/issue", routes.issue_due, "Issue every draft of a period that is due"),
        ("/v1/invoices/{invoice}/issue", routes.issue, "Issue a draft"),
        ("/v1/invoices/{invoice}/void", routes.void, "Void an issued invoice"),
    ):
        router.add_api_route(path, post, methods=["POST"], summary=summary)
    return router


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
