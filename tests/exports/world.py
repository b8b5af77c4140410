"""Exports over real engines: a database with closed lines, a folder, a clock moved by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.exporting.delivery import Deliveries, Patience
from api.exporting.exports import Exports
from catalog.clock import FixedClock
from outbound.addresses import parse_networks
from outbound.folders import Folders
from outbound.webhooks import Courier
from storage.sql.closed_lines import SqlClosedLines
from storage.sql.database import Database
from storage.sql.exports import ExportStore
from tests.closed_world import CLOSED_AT

LOOPBACK = parse_networks("127.0.0.1/32")
PATIENCE = Patience(attempts_max=3, backoff_s_min=1, backoff_s_max=60)


@dataclass
class World:
    """One deployment's exports."""

    database: Database
    root: Path
    clock: FixedClock
    store: ExportStore
    exports: Exports

    def files(self, folder: str = "out") -> dict[str, bytes]:
        """The files delivered to a folder, by name; partial ones too."""
        found = (self.root / folder).iterdir() if (self.root / folder).exists() else ()
        return {path.name: path.read_bytes() for path in sorted(found)}

    def run(self, export: str = "x") -> list[dict[str, Any]]:
        """Run one now."""
        return self.exports.run(export, actor=None)["runs"]


def world(database: Database, root: Path, *, courier: Courier | None = None) -> World:
    """Exports of ``database`` into ``root``."""
    clock = FixedClock(CLOSED_AT + 1)
    store = ExportStore(database, clock)
    deliveries = Deliveries(
        store=store,
        closed=SqlClosedLines(database),
        courier=courier or Courier(allowed=LOOPBACK, timeout_s=1.0, answer_bytes_max=65_536),
        folders=Folders(root),
        clock=clock,
        patience=PATIENCE,
    )
    return World(database, root, clock, store, Exports(store, deliveries))
