"""The ledger's reader, as its own process runs it, and as an operation at rest does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from api.apart.messages import Copies
from api.freshness import SocketHeartbeats
from api.readers.base import Tails
from api.readers.ledger import LedgerReader
from api.readers.tails import LogTails, gateways_on_disk, newest_in
from api.recent import Recent
from api.service import ledger_url, sql_url
from api.settings import Settings
from catalog.clock import Clock, Micros
from catalog.ids import NodeId
from entitlements.schedules import CurrentSchedules
from storage.clock import open_clock
from storage.redis.writer import RedisLedgerWriter
from storage.sql.database import open_database
from storage.sql.grants import GrantStore
from storage.sql.statements import StatementStore


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLedger:
    """The reader, not started; ``copied`` takes what the worker says of its compensations."""

    reader: LedgerReader
    copied: Callable[[Copies], None]
    close: Callable[[], None]


def build_ledger(settings: Settings, *, copies: Copies) -> BuiltLedger:
    """Everything the process of the ledger's reader runs."""
    clock = open_clock(settings.data, sandbox=settings.sandbox)
    database = open_database(sql_url(settings))
    statements = StatementStore(database, clock, settings.zone)
    grants = GrantStore(database, clock)
    directory, told = settings.data / "nodes", _Told(copies)
    gateways = Recent(lambda: gateways_on_disk(directory))
    logs = LogTails(directory, gateways)
    writer = RedisLedgerWriter(ledger_url(settings))
    reader = make_ledger_reader(
        settings,
        tails=LogTails(directory, lambda: [*gateways(), told.node()], through=told.through),
        schedules=CurrentSchedules(Recent(statements.current), Recent(grants.current)),
        clock=clock,
        writer=writer,
        newest=lambda: newest_in(logs),
    )

    def close() -> None:
        writer.close()
        database.close()

    return BuiltLedger(reader=reader, copied=told.take, close=close)


def make_ledger_reader(
    settings: Settings,
    *,
    tails: Tails,
    schedules: CurrentSchedules,
    clock: Clock,
    writer: RedisLedgerWriter,
    newest: Callable[[], Micros],
) -> LedgerReader:
    """The reader over these logs; ``newest`` is the latest instant any of them holds."""
    return LedgerReader(
        tails=tails,
        schedules=schedules,
        writer=writer,
        clock=clock,
        # In the reader's thread, so with connections (and a loop) of its own.
        fence=lambda: asyncio.run(SocketHeartbeats(settings.data / "run", newest=newest)()),
    )


class _Told:
    """What the worker said last."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def take(self, copies: Copies) -> None:
        self._copies = copies

    def node(self) -> NodeId:
        return self._copies.node

    def through(self) -> Micros:
        return self._copies.through
