"""Invoices over HTTP: drafts are views over rated lines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends

from api.models.page import Cursor, Limit, Page
from api.paging import LIMIT_DEFAULT, decode_place, encode_place
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.routes.totals import Period, instant, items_of
from api.totals import Question, RatedTotals, Totals
from catalog.ids import ContractId, CustomerId
from catalog.keys import Scope
from catalog.periods import PeriodSpec
from catalog.pricebooks import Timing
from invoicing.drafts import Billed, Invoice, InvoiceStatus, draft_invoices
from rating.rendering import instant_text


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


def build_router(*, totals: RatedTotals) -> APIRouter:
    """GET /v1/invoices."""
    router = APIRouter(route_class=StrictRoute, tags=["invoices"])

    @router.get(
        "/v1/invoices",
        summary="Invoices of a period; drafts until issued",
        dependencies=[Depends(require(Scope.FINANCE, Scope.READ))],
    )
    async def get_invoices(
        period: Period,
        customer: str | None = None,
        contract: str | None = None,
        status: InvoiceStatus | None = None,
        timing: Timing | None = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[dict[str, Any]]:
        start, settled = decode_place(cursor)
        question = Question(
            period=PeriodSpec.parse(period),
            customer=None if customer is None else CustomerId(customer),
            contract=None if contract is None else ContractId(contract),
            as_of=instant(None, settled),
            family=True,
        )
        answer = await totals.ask(question)
        found = [
            as_json(invoice)
            for invoice in draft_invoices(zip(items_of(answer), billed_of(answer), strict=True))
            if status in {None, invoice.status} and timing in {None, invoice.timing}
        ]
        end = start + limit
        more = encode_place(answer.as_of, end) if end < len(found) else None
        return Page(items=found[start:end], next_cursor=more)

    return router
