"""Finance: totals, closing and invoices over one set of books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter

from api.bookkeeping import Desk
from api.checks.books import check_books
from api.checks.report import Check
from api.checks.totals import check_totals
from api.closing import Closing
from api.invoices import Invoices
from api.issuing import Issuing
from api.readers.tails import LogTails
from api.routes import invoices, periods, reports, totals
from api.settings import Settings
from api.totals import ClosedBooks, RatedTotals
from api.wiring.rated import Quantities
from catalog.clock import Clock, Micros
from catalog.ids import NodeId
from invoicing.documents import Grouping
from invoicing.suspects import Touched
from invoicing.tax import TaxEngine
from invoicing.view import BooksView
from outbound.tax import TableTax
from rating.plan import specs_needed
from storage.sql.books import SqlBooks
from storage.sql.nodes import NodeRegistry
from storage.sql.reports import SqlReports
from storage.sql.statements import StatementStore

COVERED_S_MAX = 10.0
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finance:
    """What finance is made of. ``live`` are the logs that the watermark waits for.

    ``answered`` is the newest instant any log holds: nothing is recorded before it any more.
    """

    books: SqlBooks
    reports: SqlReports
    statements: StatementStore
    registry: NodeRegistry
    clock: Clock
    live: LogTails
    answered: Callable[[], Micros]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFinance:
    """The routes of finance, and what ``verify`` asks of it (in a thread)."""

    routers: tuple[APIRouter, ...]
    checks: Callable[[], Iterable[Check]]


def build_finance(
    settings: Settings, parts: Finance, quantities: Quantities, *, tax: TaxEngine | None = None
) -> BuiltFinance:
    """Totals over open and closed lines, the routes of finance, and its checks."""
    grouping, current = Grouping(settings.invoicing.grouping), parts.statements.current
    view = BooksView(
        books=parts.books,
        source=quantities.source,
        catalogs=parts.statements,
        grouping=grouping,
        suspects=Touched(catalogs=parts.statements, arrivals=quantities.arrivals),
    )
    desk = Desk(
        books=parts.books,
        view=view,
        catalogs=parts.statements,
        freshness=quantities.freshness,
        clock=parts.clock,
        answered=parts.answered,
        nodes=lambda: _heard(parts.registry, parts.live),
        writing=asyncio.Lock(),
    )
    rating = RatedTotals(
        catalogs=parts.statements,
        source=quantities.source,
        freshness=quantities.freshness,
        closed=ClosedBooks(books=parts.books, view=view),
    )
    read = Invoices(desk, grouping=grouping, tax=tax or TableTax())
    issuing = Issuing(desk, read, grace=timedelta(hours=settings.invoicing.grace_hours))

    def checks() -> Iterator[Check]:
        yield from check_books(parts.books)
        yield _totals_checked(parts, view, quantities)

    return BuiltFinance(
        routers=(
            totals.build_router(totals=rating),
            reports.build_router(totals=rating, books=parts.reports, catalog=current),
            periods.build_router(closing=Closing(desk)),
            invoices.build_router(invoices=read, issuing=issuing),
        ),
        checks=checks,
    )


def _totals_checked(parts: Finance, view: BooksView, quantities: Quantities) -> Check:
    """Totals against rating from scratch, at the watermark, once the facts are there."""
    as_of, deadline = quantities.freshness.watermark(), time.monotonic() + COVERED_S_MAX
    specs = specs_needed(parts.statements.current())
    while not quantities.positions.covered(specs, as_of=as_of):
        if time.monotonic() > deadline:
            detail = "the readers have not caught up with the log"
            return Check.well("totals", "books", None, "").unavailable(detail)
        time.sleep(PAUSE_S)
    return check_totals(view, quantities.source, parts.statements.as_of(as_of), as_of=as_of)


def _heard(registry: NodeRegistry, live: LogTails) -> Mapping[NodeId, Micros]:
    """When each registered node was last heard of; 0 where its log is not here."""
    tails = live()
    return {
        record.node: tails[record.node].durable().received_at if record.node in tails else Micros(0)
        for record in registry.nodes()
    }
