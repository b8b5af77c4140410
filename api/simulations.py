"""Simulations as a service: a period rated again under a patched catalog. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.totals import Catalogs, Freshness, Settled
from catalog.changes import Plan, Unsupported, plan
from catalog.clock import Micros, to_rfc3339
from catalog.errors import FieldError, InvalidRequest
from catalog.grammar import Document, InvalidDocument, parse_document
from catalog.ids import CustomerId, SpecId
from catalog.meters import FactSpec
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.pipeline import Asked
from rating.plan import specs_needed
from rating.ports import FactSource
from rating.whatif import Comparison, Simulator

PATCH_POINTER = "/patch"


class NoData(InvalidRequest):
    """Nothing was billed in the period, before or after: there is nothing to compare."""

    code = "no_data"


class MeterNotRead(InvalidRequest):
    """A patch reads from events what has not been read from them yet."""

    code = "meter_not_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What to try: ``patch`` is a catalog document, as values of JSON. ``customers`` null: all."""

    period: PeriodSpec
    patch: object
    customers: tuple[CustomerId, ...] | None = None
    as_of: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it: the patch as planned, both sides compared, and what they are as of."""

    planned: Plan
    comparison: Comparison
    settled: Settled


class Simulations:
    """Rates periods under catalogs that are never stated.

    Args:
        catalogs: the catalog now, and as of an instant.
        source: facts; only read.
        freshness: who waits for the readers.
        specs: every spec whose facts are kept.
        unsupported: what rating cannot do, as for apply.
    """

    def __init__(
        self,
        *,
        catalogs: Catalogs,
        source: FactSource,
        freshness: Freshness,
        specs: Callable[[], Mapping[SpecId, FactSpec]],
        unsupported: Unsupported,
    ) -> None:
        self._catalogs = catalogs
        self._simulator = Simulator(source)
        self._freshness = freshness
        self._specs = specs
        self._unsupported = unsupported

    async def run(self, asked: Simulation) -> Simulated:
        """Compare the period with and without the patch.

        Raises:
            InvalidDocument: the patch cannot be applied; pointers begin with ``/patch``.
            MeterNotRead: it needs facts that nobody has extracted.
            InvalidRequest: there is no such customer.
            NoData: there is nothing to compare.
        """
        document = _read(asked.patch)
        current = await asyncio.to_thread(self._catalogs.current)
        settled = await self._freshness.settle(asked.as_of, specs_needed(current))
        catalog = await asyncio.to_thread(self._catalogs.as_of, settled.as_of)
        planned = await asyncio.to_thread(self._planned, catalog, document, settled.as_of)
        needed = specs_needed(planned.catalog)
        await self._freshness.settle(settled.as_of, needed)
        _require_known(asked, catalog, planned.catalog)
        wanted = Asked(period=asked.period, as_of=settled.as_of, customers=asked.customers)
        comparison = await asyncio.to_thread(
            self._simulator.compare, catalog, planned.catalog, wanted
        )
        if comparison.rows.is_empty():
            raise NoData(
                f"nothing was used or billed in {asked.period.text} as of "
                f"{to_rfc3339(settled.as_of)}, with or without the patch"
            )
        return Simulated(planned=planned, comparison=comparison, settled=settled)

    def _planned(self, catalog: Catalog, document: Document, as_of: Micros) -> Plan:
        now = max(as_of, catalog.recorded_at)
        try:
            planned = plan(catalog, document, unsupported=self._unsupported, now=now)
        except InvalidDocument as error:
            raise _in_patch(error) from error
        missing = set(specs_needed(planned.catalog)) - set(self._specs())
        if missing:
            raise _not_read(planned.catalog, document, missing)
        return planned


def _read(patch: object) -> Document:
    try:
        document = parse_document(patch)
    except InvalidDocument as error:
        raise _in_patch(error) from error
    if not document.objects:
        detail = "an empty patch changes nothing"
        raise InvalidRequest(detail, errors=[FieldError(pointer=PATCH_POINTER, detail=detail)])
    return document


def _in_patch(error: InvalidDocument) -> InvalidDocument:
    errors = [
        FieldError(pointer=PATCH_POINTER + each.pointer, detail=each.detail)
        for each in error.errors
    ]
    return InvalidDocument(f"the patch cannot be applied: {error.detail}", errors=errors)


def _not_read(after: Catalog, document: Document, missing: set[SpecId]) -> MeterNotRead:
    """What of the patch reads from events what is not in the facts."""
    detail = (
        "reads from events what is not read from them yet; facts are extracted once it is applied"
    )
    meters = {
        meter
        for meter, chain in after.meters.items()
        if any(value.fact_spec.id in missing for value in chain.values)
    }
    errors = [
        FieldError(pointer=PATCH_POINTER + held.versions[-1].pointer, detail=detail)
        for held in document.objects
        if not meters or held.id in meters
    ]
    return MeterNotRead(f"the patch {detail}", errors=errors)


def _require_known(asked: Simulation, before: Catalog, after: Catalog) -> None:
    errors = [
        FieldError(pointer=f"/customers/{index}", detail=f"there is no customer '{customer}'")
        for index, customer in enumerate(asked.customers or ())
        if customer not in before.customers and customer not in after.customers
    ]
    if errors:
        raise InvalidRequest(errors[0].detail, errors=errors)
