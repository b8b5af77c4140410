"""The worker: which adapter stands behind which port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from fastapi import APIRouter

from api.checks.audit import check_audit
from api.checks.copies import check_copies
from api.checks.report import Check, Report, Status
from api.conflicts import Conflicts
from api.eventlog import EventLog
from api.freshness import Counted, Freshness, SocketHeartbeats
from api.hot.documentation import hot_paths
from api.quotes import Quotes
from api.readers.base import Pace, Tail
from api.readers.cells import CellsReader, KeptCuts
from api.readers.clickhouse import ClickHouseReader
from api.readers.copies import CopiesReader
from api.readers.facts import FactsReader
from api.readers.ledger import LedgerReader
from api.readers.sealing import Sealer
from api.readers.shared import SharedPages
from api.readers.tails import follow, nodes_on_disk
from api.rebuild import Rebuildable
from api.recent import Recent
from api.routes import admin, audit, catalog, events, keys, operations, quotes, simulations, usage
from api.routes import grants as grant_routes
from api.service import ledger_url, sql_url, worker_socket
from api.settings import Settings
from api.simulations import Simulations
from api.specs import Specs, SpecsEver
from api.usage import MeterUsage
from api.verify import MoreChecks, Verification, verify
from api.wiring.exports import build_exports
from api.wiring.finance import BuiltFinance, Finance, build_finance
from api.wiring.logs import Logs, build_logs
from api.worker import Service, Worker
from catalog.clock import Clock
from catalog.errors import Unavailable
from catalog.ids import NodeId
from catalog.snapshot import Catalog
from entitlements.schedules import CurrentSchedules
from invoicing.ports import Arrivals
from rating.ports import FactSource, SpecPositions
from rating.rerated import lines_rerated
from rating.support import unsupported
from storage.arrivals import ClickHouseArrivals, parquet_arrivals
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.events import ClickHouseEvents
from storage.clickhouse.facts import ClickHouseFacts
from storage.clickhouse.store import ClickHouseStore
from storage.clock import FileClock, open_clock
from storage.copies.log import is_compensations
from storage.log.frames import LogCorrupt
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import ParquetFacts
from storage.redis.writer import RedisLedgerWriter
from storage.sql.audit import AuditLog
from storage.sql.books import SqlBooks
from storage.sql.database import Database, open_database
from storage.sql.grants import GrantStore
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.reports import SqlReports
from storage.sql.statements import StatementStore

FACTS_PACE = Pace(poll_s=0.02, gather_s=0.25, rows_max=150_000)
"""A question takes what there is at once; without one facts in memory may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the readers fill, and the readers."""

    facts: ParquetFacts
    cells: ParquetCells
    cuts: KeptCuts
    clickhouse: ClickHouseStore
    facts_reader: FactsReader
    cells_reader: CellsReader
    clickhouse_reader: ClickHouseReader
    ledger_reader: LedgerReader
    copies_reader: CopiesReader
    sealer: Sealer
    close: Callable[[], None]

    def services(self) -> tuple[Service, ...]:
        """The readers and the sealer, in the order they start."""
        return (
            self.copies_reader,
            self.facts_reader,
            self.cells_reader,
            self.clickhouse_reader,
            self.ledger_reader,
            self.sealer,
        )

    def rebuildable(self) -> Mapping[str, Rebuildable]:
        """What ``tallyman rebuild`` can name."""
        return {
            "facts": Rebuildable(reader=self.facts_reader, drop=self.facts_reader.drop),
            "cells": Rebuildable(reader=self.cells_reader, drop=self.cells_reader.drop),
            "clickhouse": Rebuildable(
                reader=self.clickhouse_reader, drop=self.clickhouse_reader.drop
            ),
            "ledger": Rebuildable(
                reader=self.ledger_reader, drop=self.ledger_reader.request_rebuild
            ),
            "copies": Rebuildable(reader=self.copies_reader, drop=self._drop_copies),
        }

    def _drop_copies(self) -> None:
        """Everybody followed what is dropped and begins anew; who may fail comes first."""
        readers = (self.clickhouse_reader, self.cells_reader, self.facts_reader)
        with ExitStack() as paused:
            for reader in readers:
                paused.enter_context(reader.paused())
            for reader in readers:
                reader.drop()
            self.ledger_reader.request_rebuild()
            self.copies_reader.drop()


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
    schedules = CurrentSchedules(Recent(statements.current), Recent(grants.current))
    reading = Reading(schedules=schedules, specs=specs, catalog=Recent(statements.current))
    stores = build_stores(settings, logs, reading, clock)
    heartbeats = SocketHeartbeats(settings.data / "run", newest=logs.newest)
    parts = _finance_parts(database, statements, registry, logs, clock)
    routers, finance = _reading_routers(settings, logs, stores, heartbeats, parts)
    handing_over = build_exports(settings, database, stores.clickhouse.clickhouse, clock)

    more = (finance.checks, lambda: check_audit(AuditLog(database)))

    def verified() -> Report:
        return verify(verification(logs, stores, specs, more=more))

    return Worker(
        socket=worker_socket(settings.data),
        routers=(
            *_stating_routers(database, statements, grants, logs, clock, heartbeats),
            *routers,
            *_what_if_routers(settings, statements, logs, stores, heartbeats, specs),
            handing_over.router,
            operations.build_router(verify=verified, stores=stores.rebuildable()),
        ),
        services=(*stores.services(), *handing_over.services),
        checks=_checks(statements, stores),
        closers=(database.close, stores.close),
        hot_paths=hot_paths(),
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What readers ask of the catalog: schedules of grants, specs to extract, all of it."""

    schedules: CurrentSchedules
    specs: Specs
    catalog: Callable[[], Catalog]


def build_stores(settings: Settings, logs: Logs, reading: Reading, clock: Clock) -> Stores:
    """The derived stores with their readers; nothing is read or started yet."""
    facts, specs = ParquetFacts(settings.data / "facts"), reading.specs
    cells, cuts = ParquetCells(settings.data / "cells", facts), KeptCuts(reading.catalog)
    clickhouse = ClickHouseStore(ClickHouse(clickhouse_address(settings)))
    writer = RedisLedgerWriter(ledger_url(settings))
    pages = SharedPages(specs)
    facts_reader = FactsReader(
        tails=logs.read, specs=specs, facts=facts, pages=pages, pace=FACTS_PACE
    )
    return Stores(
        facts=facts,
        cells=cells,
        cuts=cuts,
        clickhouse=clickhouse,
        facts_reader=facts_reader,
        cells_reader=CellsReader(tails=logs.read, specs=specs, facts=facts, cells=cells, cuts=cuts),
        clickhouse_reader=ClickHouseReader(
            tails=logs.read, specs=specs, store=clickhouse, pages=pages
        ),
        ledger_reader=LedgerReader(
            tails=logs.read,
            schedules=reading.schedules,
            writer=writer,
            clock=clock,
            pages=pages,
            # In the reader's thread, so with connections (and a loop) of its own.
            fence=lambda: asyncio.run(
                SocketHeartbeats(settings.data / "run", newest=logs.newest)()
            ),
        ),
        copies_reader=logs.copies,
        sealer=Sealer(tails=logs.read, sealed=facts_reader.wake),
        close=writer.close,
    )


def clickhouse_address(settings: Settings) -> Address:
    """The configured server, or chDB in the data directory."""
    if settings.clickhouse_url is not None:
        return Address(url=settings.clickhouse_url.get_secret_value())
    return Address(path=settings.data / "clickhouse")


def verification(
    logs: Logs,
    stores: Stores,
    specs: Specs,
    *,
    balances: bool = True,
    more: tuple[MoreChecks, ...] = (),
) -> Verification:
    """What ``verify`` compares, with followers of its own (a follower belongs to one thread)."""
    own = {
        node: (logs.directory / node, follow(logs.directory / node, node))
        for node in nodes_on_disk(logs.directory)
    }
    return Verification(
        logs=own,
        specs=specs(),
        facts=stores.facts,
        cells=stores.cells,
        clickhouse=stores.clickhouse,
        more=(
            lambda: _copies(logs, {node: tail for node, (_, tail) in own.items()}),
            *((lambda: _balances(stores.ledger_reader),) if balances else ()),
            *more,
        ),
    )


def _copies(logs: Logs, tails: Mapping[NodeId, Tail]) -> Iterable[Check]:
    """The compensations against a recount of the copies in the logs."""
    gateways = {node: tail for node, tail in tails.items() if not is_compensations(node)}
    for node in tails.keys() - gateways.keys():
        try:
            yield check_copies(gateways, tails[node], window_us=logs.window_us)
        except LogCorrupt as error:
            made = Check.well("copies", "compensations", None, "")
            yield replace(made, status=Status.UNAVAILABLE, detail=error.detail)


def _balances(reader: LedgerReader) -> Iterable[Check]:
    """The ledger's balances against a recount of the log."""
    check = Check.well("balances", "ledger", None, "balances are as recounted from the log")
    try:
        differences = reader.recount()
    except Unavailable as error:
        yield replace(check, status=Status.UNAVAILABLE, detail=error.detail)
        return
    yield check if not differences else check.differs(None, "; ".join(map(str, differences[:3])))


def _reading_routers(
    settings: Settings,
    logs: Logs,
    stores: Stores,
    heartbeats: SocketHeartbeats,
    parts: Finance,
) -> tuple[list[APIRouter], BuiltFinance]:
    statements = parts.statements
    source, reader = _rated_from(settings, stores)

    def fresh(reader: SpecPositions) -> Freshness:
        positions = Counted(logs.copies.covered, reader)
        return Freshness(watermark_tails=logs.live, positions=positions, heartbeats=heartbeats)

    rated, looked_up = fresh(reader), fresh(stores.clickhouse_reader)
    finance = build_finance(
        settings,
        parts,
        source=source,
        arrivals=_arrivals(settings, stores),
        freshness=rated,
        positions=Counted(logs.copies.covered, reader),
    )
    metering = MeterUsage(catalogs=statements, source=source, freshness=rated)
    found = EventLog(
        events=ClickHouseEvents(stores.clickhouse.clickhouse),
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
    settings: Settings,
    statements: StatementStore,
    logs: Logs,
    stores: Stores,
    heartbeats: SocketHeartbeats,
    specs: Specs,
) -> list[APIRouter]:
    source, reader = _rated_from(settings, stores)
    positions = Counted(logs.copies.covered, reader)
    fresh = Freshness(watermark_tails=logs.live, positions=positions, heartbeats=heartbeats)
    quoting = Quotes(catalogs=statements, source=source, freshness=fresh, unsupported=unsupported)
    simulating = Simulations(
        catalogs=statements, source=source, freshness=fresh, specs=specs, unsupported=unsupported
    )
    return [
        quotes.build_router(quotes=quoting),
        simulations.build_router(simulations=simulating),
    ]


def _rated_from(
    settings: Settings, stores: Stores
) -> tuple[FactSource, FactsReader | ClickHouseReader]:
    """Where rating takes its quantities, and who says how far they are. Same totals either way."""
    if settings.rate_from == "clickhouse":
        return ClickHouseFacts(stores.clickhouse.clickhouse), stores.clickhouse_reader
    if settings.rate_from == "cells":
        cuts = stores.cuts
        return CellSource(stores.cells, stores.facts, lambda: cuts.last), stores.facts_reader
    return stores.facts, stores.facts_reader


def _arrivals(settings: Settings, stores: Stores) -> Arrivals:
    """Who had events come or go lately, from where rating takes its quantities."""
    if settings.rate_from == "clickhouse":
        return ClickHouseArrivals(stores.clickhouse.clickhouse)
    return parquet_arrivals(stores.facts)


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
        "ledger reader": lambda: stores.ledger_reader.failure,
    }
