"""Exports: what is read, kept and sent by what."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from api.exporting.delivery import Deliveries, Patience
from api.exporting.exports import Exports
from api.exporting.scheduler import ExportScheduler
from api.parts import Service
from api.readers.closed import ClosedLinesReader
from api.routes import exports
from api.settings import Settings
from catalog.clock import Clock
from outbound.addresses import parse_networks
from outbound.folders import Folders
from outbound.webhooks import Courier
from storage.clickhouse.client import ClickHouse
from storage.clickhouse.reports import ClickHouseReports
from storage.sql.closed_lines import SqlClosedLines
from storage.sql.database import Database
from storage.sql.exports import ExportStore


@dataclass(frozen=True, slots=True, kw_only=True)
class HandingOver:
    """The routes of exports, and the threads that run them and copy closed lines for BI."""

    router: APIRouter
    services: tuple[Service, ...]


def build_exports(
    settings: Settings, database: Database, clickhouse: ClickHouse, clock: Clock
) -> HandingOver:
    """What is handed over, to where."""
    out = settings.outbound
    store = ExportStore(database, clock)
    closed = SqlClosedLines(database)
    deliveries = Deliveries(
        store=store,
        closed=closed,
        courier=Courier(
            allowed=parse_networks(out.allow),
            timeout_s=out.timeout_s_max,
            body_bytes_max=out.body_bytes_max,
        ),
        folders=Folders(out.folder or settings.data / "exports"),
        clock=clock,
        patience=Patience(
            attempts_max=out.attempts_max,
            backoff_s_min=out.backoff_s_min,
            backoff_s_max=out.backoff_s_max,
        ),
    )
    made = Exports(store, deliveries)
    return HandingOver(
        router=exports.build_router(exports=made),
        services=(
            ExportScheduler(made, clock),
            ClosedLinesReader(closed=closed, reports=ClickHouseReports(clickhouse)),
        ),
    )
