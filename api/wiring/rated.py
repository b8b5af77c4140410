"""Where rating takes its quantities, built once: what rates, quotes and simulates shares it."""

from __future__ import annotations

from dataclasses import dataclass

from api.freshness import Counted, Freshness, Heartbeats
from api.settings import Settings
from api.wiring.logs import Logs
from api.wiring.stores import Stores
from invoicing.ports import Arrivals
from rating.ports import FactSource, SpecPositions
from storage.arrivals import ClickHouseArrivals, parquet_arrivals
from storage.clickhouse.facts import ClickHouseFacts
from storage.parquet.cells.source import CellSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """A source of quantities, who says how far it is, and whose events came or went lately.

    Totals are the same from each source. The source keeps what it has summed, so there is one.
    """

    source: FactSource
    positions: SpecPositions
    freshness: Freshness
    arrivals: Arrivals


def build_quantities(
    settings: Settings, logs: Logs, stores: Stores, heartbeats: Heartbeats
) -> Quantities:
    """The source that ``rate_from`` names."""
    source, arrivals, reader = _chosen(settings, stores)
    positions = Counted(logs.copies.covered, reader)
    return Quantities(
        source=source,
        positions=positions,
        freshness=Freshness(watermark_tails=logs.live, positions=positions, heartbeats=heartbeats),
        arrivals=arrivals,
    )


def _chosen(settings: Settings, stores: Stores) -> tuple[FactSource, Arrivals, SpecPositions]:
    if settings.rate_from == "clickhouse":
        client = stores.clickhouse.clickhouse
        arrived = ClickHouseArrivals(client, specs=stores.specs)
        return ClickHouseFacts(client), arrived, stores.clickhouse_reader
    arrivals = parquet_arrivals(stores.facts, specs=stores.specs)
    if settings.rate_from == "cells":
        cuts = stores.cuts
        cells = CellSource(stores.cells, stores.facts, lambda: cuts.last)
        return cells, arrivals, stores.facts_reader
    return stores.facts, arrivals, stores.facts_reader
