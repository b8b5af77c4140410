"""Operations on a data directory that no service is using: the worker's parts, without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.checks.audit import check_audit
from api.checks.books import check_books
from api.checks.coverage import check_coverage
from api.checks.report import Check, Report
from api.datadir import ServiceLock
from api.logs import configure_logs
from api.readers.base import Reader
from api.readers.ledger import LedgerReader
from api.readers.tails import Follower
from api.rebuild import Rebuildable
from api.service import ledger_url, sql_url
from api.settings import Settings, read_settings
from api.specs import SpecsEver
from api.verify import verify
from api.wiring.ledger import make_ledger_reader
from api.wiring.logs import Logs, build_logs
from api.wiring.stores import Reading, Stores, build_stores
from api.wiring.verification import verification
from catalog.clock import Clock
from catalog.errors import NotFound
from entitlements.schedules import CurrentSchedules
from storage.clock import open_clock
from storage.redis.writer import RedisLedgerWriter
from storage.sql.audit import AuditLog
from storage.sql.books import SqlBooks
from storage.sql.database import open_database
from storage.sql.grants import GrantStore
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.statements import StatementStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """What can be done with a data directory at rest. Valid inside :func:`offline` only."""

    keys: KeyStore
    clock: Clock
    logs: Logs
    stores: Stores
    ledger: LedgerReader
    specs: SpecsEver
    books: SqlBooks
    audit: AuditLog
    ledger_kept: bool

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> Report:
        """Every check that a directory at rest allows; nothing is written to it.

        Balances are compared only where the ledger is a server of its own: the private one lives
        in memory and is filled from the log at every start.
        """
        subject = verification(
            self.logs,
            self.stores,
            self.specs,
            balances=self.ledger_kept,
            more=(lambda: check_books(self.books), lambda: check_audit(self.audit)),
        )
        report = verify(subject, progress=progress)
        return Report(checks=[*report.checks, *self._coverage()])

    def records(self) -> int:
        """How many records the logs hold."""
        return sum(tail.durable().seq for tail in self.logs.tails().values())

    def rebuildable(self) -> Mapping[str, Rebuildable[Reader]]:
        """The stores that outlive the service; the private ledger does not."""
        ledger = Rebuildable(reader=self.ledger, drop=self.ledger.request_rebuild)
        kept = {"ledger": ledger} if self.ledger_kept else {}
        return {**self.stores.rebuildable(), **kept}

    def _coverage(self) -> Iterator[Check]:
        specs = tuple(self.specs())
        for node, tail in self.logs.read().items():
            yield check_coverage(self.stores.facts, specs, node=node, log=_sealed(tail))


def _sealed(tail: Follower) -> Callable[[], int]:
    def last() -> int:
        segments = tail.segments()
        return segments[-1].last_seq if segments else 0

    return last


@contextmanager
def offline(data: Path) -> Iterator[Offline]:
    """Hold the lock of ``data`` and open what is in it.

    Raises:
        NotFound: no service ever ran there.
        DataInUse: a service (or another command) is using it.
    """
    settings = offline_settings(data)
    with ServiceLock(data):
        configure_logs(settings.model_copy(update={"log_level": "error"}), process="offline")
        clock = open_clock(data, sandbox=settings.sandbox)
        database = open_database(sql_url(settings))
        try:
            statements = StatementStore(database, clock, settings.zone)
            specs = SpecsEver(statements)
            logs = build_logs(settings, NodeRegistry(database, clock), clock, at_rest=True)
            grants = GrantStore(database, clock)
            writer = RedisLedgerWriter(ledger_url(settings))
            ledger = make_ledger_reader(
                settings,
                tails=logs.read,
                schedules=CurrentSchedules(statements.current, grants.current),
                clock=clock,
                writer=writer,
                newest=logs.newest,
            )
            reading = Reading(specs=specs, catalog=statements.current)
            stores = build_stores(settings, logs, reading, ledger)
            try:
                yield Offline(
                    keys=KeyStore(database, clock),
                    clock=clock,
                    logs=logs,
                    stores=stores,
                    ledger=ledger,
                    specs=specs,
                    books=SqlBooks(database, clock),
                    audit=AuditLog(database),
                    ledger_kept=settings.redis_url is not None,
                )
            finally:
                logs.copies.close()
                writer.close()
                stores.clickhouse.clickhouse.close()
        finally:
            database.close()


def offline_settings(data: Path) -> Settings:
    """The settings of the service that ran on ``data``: a sandbox is known by its clock.

    Raises:
        NotFound: no service ever ran there.
    """
    if not (data / "nodes").is_dir():
        raise NotFound(f"no service ever ran on {data}: there is no log in it")
    settings = read_settings(data=data)
    return settings.model_copy(update={"sandbox": (data / "clock").exists()})
