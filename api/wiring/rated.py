"""Where rating takes its quantities, built once: what rates, quotes and simulates shares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from api.freshness import Counted, Freshness, Heartbeats
from api.readers.drops import Drops
from api.settings import Settings
from api.whole import Whole, WholeArrivals, WholeFacts
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
    whole = whole_of(logs, reader)
    return Quantities(
        source=WholeFacts(source, whole),
        positions=whole,
        freshness=Freshness(watermark_tails=logs.live, positions=whole, heartbeats=heartbeats),
        arrivals=WholeArrivals(arrivals, whole, specs=stores.specs),
    )


class Droppable(SpecPositions, Protocol):
    """A reader whose store ``tallyman rebuild`` drops."""

    @property
    def drops(self) -> Drops:
        """How often that was."""
        ...


def whole_of(logs: Logs, reader: Droppable) -> Whole:
    """Positions of what ``reader`` fills, copies known. Who rebuilds copies drops it, too."""
    counted = Counted(logs.copies.covered, reader)
    return Whole(counted, generation=lambda: reader.drops.generation)


def _chosen(settings: Settings, stores: Stores) -> tuple[FactSource, Arrivals, Droppable]:
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
