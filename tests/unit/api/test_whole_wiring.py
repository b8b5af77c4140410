"""Whoever rates, whatever from, reads whole: the wiring leaves no way around it."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from api.freshness import ReadersBehind
from api.settings import Settings
from api.wiring.logs import build_logs
from api.wiring.rated import build_quantities
from api.wiring.stores import Reading, build_stores
from catalog.clock import FixedClock, Micros
from catalog.snapshot import Catalog
from invoicing.ports import Arrived
from rating.ports import SPANS
from storage.sql.database import open_database
from storage.sql.nodes import NodeRegistry
from tests.logs_in_memory import spec, specs


async def no_heartbeats() -> None:
    """There is no gateway."""


class NoLedger:
    """The ledger's reader is of no concern here."""


@pytest.mark.parametrize("rate_from", ["cells", "parquet", "clickhouse"])
def test_no_source_is_read_while_what_it_reads_is_dropped(tmp_path: Path, rate_from: str) -> None:
    """Neither for quantities nor for who had events lately, nor does a question get that far."""
    clock, held = FixedClock(1_000_000), specs(spec())
    settings = Settings(data=tmp_path, rate_from=rate_from)
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    logs = build_logs(settings, NodeRegistry(database, clock), clock)
    reading = Reading(specs=lambda: held, catalog=lambda: Catalog(timezone=ZoneInfo("UTC")))
    stores = build_stores(settings, logs, reading, NoLedger())
    quantities = build_quantities(settings, logs, stores, no_heartbeats)
    reader = stores.clickhouse_reader if rate_from == "clickhouse" else stores.facts_reader
    arrived = Arrived(after=Micros(0), upto=Micros(0), before=Micros(1))
    with reader.drops.one():
        assert not quantities.positions.covered([], as_of=Micros(0))
        for read in (quantities.source.sums, quantities.source.extremes, quantities.source.facts):
            with pytest.raises(ReadersBehind):
                read(SPANS.to_frame(), as_of=Micros(0))
        with pytest.raises(ReadersBehind):
            quantities.arrivals.subjects(arrived)
    database.close()
