"""The worker: which adapter stands behind which port."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from api.apart.ledger import LedgerApart
from api.apart.messages import Copies
from api.checks.audit import check_audit
from api.checks.report import Report
from api.conflicts import Conflicts
from api.eventlog import EventLog
from api.freshness import Freshness, SocketHeartbeats
from api.hot.documentation import hot_paths
from api.parts import Worker
from api.priority import give_way
from api.quotes import Quotes
from api.rebuild import Follower, Rebuildable
from api.recent import Recent
from api.routes import admin, audit, catalog, events, keys, operations, quotes, simulations, usage
from api.routes import grants as grant_routes
from api.service import sql_url, worker_socket
from api.settings import Settings, child_environment
from api.simulations import Simulations
from api.specs import Specs, SpecsEver
from api.usage import MeterUsage
from api.verify import verify
from api.whole import WholeEvents
from api.wiring.exports import build_exports
from api.wiring.finance import BuiltFinance, Finance, build_finance
from api.wiring.logs import Logs, build_logs
from api.wiring.rated import Quantities, build_quantities, whole_of
from api.wiring.stores import Reading, Stores, build_stores
from api.wiring.verification import verification
from catalog.clock import Clock
from catalog.snapshot import Catalog
from rating.deferred import fees_deferred
from rating.rerated import lines_rerated
from rating.support import unsupported
from storage.clickhouse.events import ClickHouseEvents
from storage.clock import FileClock, open_clock
from storage.sql.audit import AuditLog
from storage.sql.books import SqlBooks
from storage.sql.database import Database, open_database
from storage.sql.grants import GrantStore
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.reports import SqlReports
from storage.sql.statements import StatementStore


def _catalog_router(statements: StatementStore, clock: Clock, logs: Logs) -> APIRouter:
    """The catalog's routes, judged by what rates and diffed by the lines that rate anew."""

    def rerated(before: Catalog, after: Catalog) -> int:
        return lines_rerated(before, after, as_of=clock.now_us())

    return catalog.build_router(
        store=statements,
        clock=clock,
        unsupported=unsupported,
        lines_to_rerate=rerated,
        answered=logs.newest,
        noted=fees_deferred,
    )


def build_worker(settings: Settings) -> Worker:
    """Everything the worker runs."""
    clock = open_clock(settings.data, sandbox=settings.sandbox)
    database = open_database(sql_url(settings))
    statements = StatementStore(database, clock, settings.zone)
    registry = NodeRegistry(database, clock)
    specs = Recent(SpecsEver(statements))
    logs = build_logs(settings, registry, clock)
    grants = GrantStore(database, clock)
    ledger = _ledger(settings, logs)
    reading = Reading(specs=specs, catalog=Recent(statements.current))
    stores = build_stores(settings, logs, reading, ledger)
    heartbeats = SocketHeartbeats(settings.data / "run", newest=logs.newest)
    parts = _finance_parts(database, statements, registry, logs, clock)
    quantities = build_quantities(settings, logs, stores, heartbeats)
    routers, finance = _reading_routers(settings, logs, stores, heartbeats, parts, quantities)
    handing_over = build_exports(settings, database, stores.clickhouse.clickhouse, clock)

    more = (finance.checks, lambda: check_audit(AuditLog(database)))

    def verified() -> Report:
        return verify(verification(logs, stores, specs, more=more))

    return Worker(
        socket=worker_socket(settings.data),
        routers=(
            *_stating_routers(database, statements, grants, logs, clock, heartbeats),
            *routers,
            *_what_if_routers(statements, quantities, specs),
            handing_over.router,
            operations.build_router(verify=verified, stores=_rebuildable(stores)),
        ),
        services=(ledger, *stores.services(), *handing_over.services),
        checks=_checks(statements, stores),
        closers=(database.close,),
        hot_paths=hot_paths(),
    )


def _ledger(settings: Settings, logs: Logs) -> LedgerApart:
    """The ledger's reader, in a process that everything else of this one gives way to."""
    return LedgerApart(
        tails=logs.read,
        copies=lambda: Copies(node=logs.copies.node, through=logs.copies.through),
        environment=child_environment(settings),
        first=give_way,
    )


def _rebuildable(stores: Stores) -> dict[str, Rebuildable[Follower]]:
    ledger = Rebuildable(reader=stores.ledger, drop=stores.ledger.request_rebuild)
    return {**stores.rebuildable(), "ledger": ledger}


def _finance_parts(
    database: Database,
    statements: StatementStore,
    registry: NodeRegistry,
    logs: Logs,
    clock: Clock,
) -> Finance:
    return Finance(
        books=SqlBooks(database, clock),
        reports=SqlReports(database),
        statements=statements,
        registry=registry,
        clock=clock,
        live=logs.live,
        answered=logs.newest,
    )


def _stating_routers(
    database: Database,
    statements: StatementStore,
    grants: GrantStore,
    logs: Logs,
    clock: Clock,
    heartbeats: SocketHeartbeats,
) -> list[APIRouter]:
    """What is stated by hand: keys, the sandbox's clock, the catalog, grants."""
    return [
        keys.build_router(keys=KeyStore(database, clock), clock=clock),
        admin.build_router(
            clock=clock if isinstance(clock, FileClock) else None,
            heartbeat=heartbeats,
            audit=AuditLog(database),
        ),
        audit.build_router(audit=AuditLog(database)),
        _catalog_router(statements, clock, logs),
        grant_routes.build_router(grants=grants, catalog=statements.current, clock=clock),
    ]


def _reading_routers(
    settings: Settings,
    logs: Logs,
    stores: Stores,
    heartbeats: SocketHeartbeats,
    parts: Finance,
    quantities: Quantities,
) -> tuple[list[APIRouter], BuiltFinance]:
    """What is read: events and conflicts, usage, and all of finance."""
    statements = parts.statements
    whole = whole_of(logs, stores.clickhouse_reader)
    looked_up = Freshness(watermark_tails=logs.live, positions=whole, heartbeats=heartbeats)
    finance = build_finance(settings, parts, quantities)
    metering = MeterUsage(
        catalogs=statements, source=quantities.source, freshness=quantities.freshness
    )
    found = EventLog(
        events=WholeEvents(ClickHouseEvents(stores.clickhouse.clickhouse), whole),
        catalogs=statements,
        freshness=looked_up,
    )
    conflicts = Conflicts(
        compensations=lambda: logs.read()[logs.copies.node], tails=logs.tails, freshness=looked_up
    )
    routers = [
        events.build_router(events=found, conflicts=conflicts),
        events.build_places_router(events=found, since=logs.window_start),
        usage.build_router(usage=metering),
        *finance.routers,
    ]
    return routers, finance


def _what_if_routers(
    statements: StatementStore, quantities: Quantities, specs: Specs
) -> list[APIRouter]:
    """What is tried out and changes nothing."""
    source, fresh = quantities.source, quantities.freshness
    quoting = Quotes(catalogs=statements, source=source, freshness=fresh, unsupported=unsupported)
    simulating = Simulations(
        catalogs=statements, source=source, freshness=fresh, specs=specs, unsupported=unsupported
    )
    return [
        quotes.build_router(quotes=quoting),
        simulations.build_router(simulations=simulating),
    ]


def _checks(statements: StatementStore, stores: Stores) -> dict[str, Callable[[], str | None]]:
    def sql() -> str | None:
        statements.revision()
        return None

    return {
        "sql": sql,
        "copies reader": lambda: stores.copies_reader.failure,
        "facts reader": lambda: stores.facts_reader.failure,
        "cells reader": lambda: stores.cells_reader.failure,
        "clickhouse reader": lambda: stores.clickhouse_reader.failure,
        "ledger reader": lambda: stores.ledger.failure,
    }
