"""The derived stores, with the readers that fill them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from api.parts import Service
from api.readers.base import Pace, Reader
from api.readers.cells import CellsReader, KeptCuts
from api.readers.clickhouse import ClickHouseReader
from api.readers.copies import CopiesReader
from api.readers.facts import FactsReader
from api.readers.ledger import Difference
from api.readers.sealing import Sealer
from api.readers.shared import SharedPages
from api.rebuild import Follower, Rebuildable
from api.settings import Settings
from api.specs import Specs
from api.wiring.logs import Logs
from catalog.snapshot import Catalog
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.store import ClickHouseStore
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import ParquetFacts

FACTS_PACE = Pace(poll_s=0.02, gather_s=0.25, rows_max=150_000)
"""A question takes what there is at once; without one facts in memory may wait."""


class LedgerFollower(Follower, Protocol):
    """The ledger's reader: in the worker's child, or here where no service runs."""

    def request_rebuild(self) -> None:
        """Drop the ledger and fill it anew."""
        ...

    def recount(self) -> list[Difference]:
        """Compare every total with the log.

        Raises:
            Unavailable: not now.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What readers ask of the catalog: specs to extract, all of it."""

    specs: Specs
    catalog: Callable[[], Catalog]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the readers fill, and the readers; ``ledger`` is run by whoever brought it."""

    specs: Specs
    facts: ParquetFacts
    cells: ParquetCells
    cuts: KeptCuts
    clickhouse: ClickHouseStore
    facts_reader: FactsReader
    cells_reader: CellsReader
    clickhouse_reader: ClickHouseReader
    ledger: LedgerFollower
    copies_reader: CopiesReader
    sealer: Sealer

    def services(self) -> tuple[Service, ...]:
        """The readers and the sealer, in the order they start; not the ledger's."""
        return (
            self.copies_reader,
            self.facts_reader,
            self.cells_reader,
            self.clickhouse_reader,
            self.sealer,
        )

    def rebuildable(self) -> dict[str, Rebuildable[Reader]]:
        """What ``tallyman rebuild`` can name; the ledger not among it."""
        return {
            "facts": Rebuildable(reader=self.facts_reader, drop=self.facts_reader.drop),
            "cells": Rebuildable(reader=self.cells_reader, drop=self.cells_reader.drop),
            "clickhouse": Rebuildable(
                reader=self.clickhouse_reader, drop=self.clickhouse_reader.drop
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
            self.ledger.request_rebuild()
            self.copies_reader.drop()


def build_stores(
    settings: Settings, logs: Logs, reading: Reading, ledger: LedgerFollower
) -> Stores:
    """The derived stores with their readers; nothing is read or started yet."""
    facts, specs = ParquetFacts(settings.data / "facts"), reading.specs
    cells, cuts = ParquetCells(settings.data / "cells", facts), KeptCuts(reading.catalog)
    clickhouse = ClickHouseStore(ClickHouse(clickhouse_address(settings)))
    pages = SharedPages(specs)
    facts_reader = FactsReader(
        tails=logs.read, specs=specs, facts=facts, pages=pages, pace=FACTS_PACE
    )
    return Stores(
        specs=specs,
        facts=facts,
        cells=cells,
        cuts=cuts,
        clickhouse=clickhouse,
        facts_reader=facts_reader,
        cells_reader=CellsReader(tails=logs.read, specs=specs, facts=facts, cells=cells, cuts=cuts),
        clickhouse_reader=ClickHouseReader(
            tails=logs.read, specs=specs, store=clickhouse, pages=pages
        ),
        ledger=ledger,
        copies_reader=logs.copies,
        sealer=Sealer(tails=logs.read, sealed=facts_reader.wake),
    )


def clickhouse_address(settings: Settings) -> Address:
    """The configured server, or chDB in the data directory."""
    if settings.clickhouse_url is not None:
        return Address(url=settings.clickhouse_url.get_secret_value())
    return Address(path=settings.data / "clickhouse")
