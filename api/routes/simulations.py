"""What-if over HTTP: a period rated again under a patched catalog."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import polars as pl
from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.models.strictly import read_model
from api.models.whatif import SimulationRequest, read_period
from api.openapi import request_body
from api.routes.bodies import read_json
from api.routes.principal import require
from api.routes.strict import StrictRoute
from api.simulations import Simulated, Simulation, Simulations
from catalog.clock import to_micros, to_rfc3339
from catalog.ids import CustomerId
from catalog.keys import Scope
from catalog.money import minor_units
from rating.engine import ENGINE

AMOUNTS = ("before", "after", "difference")


def as_json(asked: SimulationRequest, answer: Simulated) -> dict[str, Any]:
    """A simulation as JSON: per customer, per product, and in total, each in its currency."""
    rows, compared = answer.comparison.rows, answer.comparison
    return {
        "period": asked.period,
        "as_of": to_rfc3339(answer.settled.as_of),
        "watermark": to_rfc3339(answer.settled.watermark),
        "engine": ENGINE,
        "changes": [
            {"kind": change.kind.value, "id": change.id, "action": change.action}
            for change in answer.planned.changes
        ],
        "warnings": [*answer.planned.warnings, *_warnings(asked, answer)],
        "contracts_touched": compared.touched,
        "lines": {"before": compared.lines_before, "after": compared.lines_after},
        "event_count": compared.events,
        "items": _summed(rows, "customer"),
        "products": _summed(rows, "product"),
        "totals": {total.pop("currency"): total for total in _summed(rows)},
    }


def _warnings(asked: SimulationRequest, answer: Simulated) -> list[str]:
    found = []
    if not answer.comparison.events:
        found.append(f"no usage was counted in {asked.period}: only fees and terms are compared")
    if not answer.planned.statements:
        found.append("the patch changes nothing: the catalog says all of it already")
    return found


def _summed(rows: pl.DataFrame, *keys: str) -> list[dict[str, Any]]:
    """Sums per ``keys`` and currency, as text with the currency's minor digits, in order."""
    by = [*keys, "currency"]
    sums = rows.group_by(by).agg(pl.col(AMOUNTS).sum()).sort(by, nulls_last=True)
    found = []
    for row in sums.iter_rows(named=True):
        decimals = minor_units(row["currency"])
        found.append(row | {name: f"{row[name]:.{decimals}f}" for name in AMOUNTS})
    return found


def build_router(*, simulations: Simulations) -> APIRouter:
    """POST /v1/simulations."""
    router = APIRouter(route_class=StrictRoute, tags=["what-if"])

    @router.post(
        "/v1/simulations",
        summary="Rate a period again under a changed catalog; nothing is changed",
        dependencies=[Depends(require(Scope.FINANCE, Scope.CATALOG))],
        openapi_extra=request_body(SimulationRequest),
    )
    async def simulate(tree: Annotated[object, Depends(read_json)]) -> Response:
        asked = read_model(SimulationRequest, tree)
        answer = await simulations.run(
            Simulation(
                period=read_period(asked.period, "/period"),
                patch=asked.patch,
                customers=None
                if asked.customers is None
                else tuple(map(CustomerId, asked.customers)),
                as_of=None if asked.as_of is None else to_micros(asked.as_of),
            )
        )
        return Response(orjson.dumps(as_json(asked, answer)), media_type="application/json")

    return router
