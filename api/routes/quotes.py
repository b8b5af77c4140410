"""Quotes over HTTP: invoices under proposed terms, before anything is agreed."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.models.strictly import read_model
from api.models.whatif import QuoteRequest
from api.openapi import request_body
from api.quotes import Quoted, Quotes
from api.routes.bodies import read_json
from api.routes.invoices import as_json, billed_of
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.routes.totals import line_items
from api.totals import Totals
from catalog.clock import to_rfc3339
from catalog.keys import Scope
from catalog.money import minor_units
from invoicing.drafts import draft_invoices
from rating.engine import ENGINE


def quote_as_json(quoted: Quoted) -> dict[str, object]:
    """Draft invoices, and what they come to."""
    settled = quoted.settled
    lines = Totals(
        lines=quoted.rated.lines,
        billing=quoted.rated.billing,
        as_of=settled.as_of,
        watermark=settled.watermark,
    )
    rows = zip(line_items(lines.lines), billed_of(lines), strict=True)
    invoices = list(draft_invoices(rows))
    total = sum((invoice.total for invoice in invoices), Decimal(0))
    return {
        "invoices": [as_json(invoice) for invoice in invoices],
        "currency": quoted.currency,
        "total": f"{total:.{minor_units(quoted.currency)}f}",
        "as_of": to_rfc3339(settled.as_of),
        "engine": ENGINE,
    }


def build_router(*, quotes: Quotes) -> APIRouter:
    """POST /v1/quotes."""
    router = APIRouter(route_class=StrictRoute, tags=["what-if"])

    @router.post(
        "/v1/quotes",
        summary="Preview the invoices of a contract; nothing is changed",
        dependencies=[Depends(require(Scope.FINANCE, Scope.CATALOG))],
        openapi_extra=request_body(QuoteRequest),
    )
    async def post_quote(tree: Annotated[object, Depends(read_json)]) -> Response:
        quoted = await quotes.run(read_model(QuoteRequest, tree))
        return Response(orjson.dumps(quote_as_json(quoted)), media_type="application/json")

    return router
