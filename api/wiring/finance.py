"""Finance: totals, closing and invoices over one set of books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter

from api.bookkeeping import Desk
from api.closing import Closing
from api.freshness import Freshness
from api.invoices import Invoices
from api.issuing import Issuing
from api.readers.tails import LogTails
from api.routes import invoices, periods, totals
from api.settings import Settings
from api.totals import ClosedBooks, RatedTotals
from catalog.clock import Clock, Micros
from catalog.ids import NodeId
from invoicing.documents import Grouping
from invoicing.ports import Arrivals
from invoicing.tax import TaxEngine, Untaxed
from invoicing.view import BooksView
from rating.ports import FactSource
from storage.sql.books import SqlBooks
from storage.sql.nodes import NodeRegistry
from storage.sql.statements import StatementStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Finance:
    """What finance is made of. ``live`` are the logs that the watermark waits for."""

    books: SqlBooks
    statements: StatementStore
    registry: NodeRegistry
    clock: Clock
    live: LogTails
    answered: Callable[[], Micros]


def build_finance(
    settings: Settings,
    parts: Finance,
    *,
    source: FactSource,
    arrivals: Arrivals,
    freshness: Freshness,
    tax: TaxEngine | None = None,
) -> tuple[RatedTotals, list[APIRouter]]:
    """Totals over open and closed lines, and the routes of finance."""
    grouping = Grouping(settings.invoicing.grouping)
    view = BooksView(
        books=parts.books,
        source=source,
        catalogs=parts.statements,
        grouping=grouping,
        suspects=Touched(catalogs=parts.statements, arrivals=arrivals),
    )
    desk = Desk(
        books=parts.books,
        view=view,
        catalogs=parts.statements,
        freshness=freshness,
        clock=parts.clock,
        answered=parts.answered,
        nodes=lambda: _heard(parts.registry, parts.live),
        writing=asyncio.Lock(),
    )
    rating = RatedTotals(
        catalogs=parts.statements,
        source=source,
        freshness=freshness,
        closed=ClosedBooks(books=parts.books, view=view),
    )
    read = Invoices(desk, grouping=grouping, tax=tax or Untaxed())
    grace = timedelta(hours=settings.invoicing.grace_hours)
    return rating, [
        totals.build_router(totals=rating),
        periods.build_router(closing=Closing(desk)),
        invoices.build_router(invoices=read, issuing=Issuing(desk, read, grace=grace)),
    ]


def _heard(registry: NodeRegistry, live: LogTails) -> Mapping[NodeId, Micros]:
    """When each registered node was last heard of; 0 where its log is not here."""
    tails = live()
    return {
        record.node: tails[record.node].durable().received_at if record.node in tails else Micros(0)
        for record in registry.nodes()
    }
