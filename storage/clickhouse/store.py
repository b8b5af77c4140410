"""The writing side: batches in, positions read back from what is there."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import polars as pl

from catalog.clock import Micros
from catalog.ids import NodeId, Seq
from storage.clickhouse.batches import Batch, Table, insertable
from storage.clickhouse.client import ClickHouse, StoreUnavailable

POSITIONS = """
SELECT node, specs, min(first_seq) AS first, max(last_seq) AS last,
       sum(last_seq - first_seq + 1) AS records,
       toUnixTimestamp64Micro(max(received_at)) AS received
FROM {table} WHERE marker GROUP BY node, specs
"""
IN_FLIGHT = """
SELECT count() AS running FROM system.processes WHERE startsWith(query_id, {prefix:String})
"""


class StoreInconsistent(StoreUnavailable):
    """The batches of a node do not follow each other: something else wrote or removed rows.

    ``tallyman rebuild clickhouse`` replays the log.
    """

    code = "store_inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a table is for one node (and spec): the last record of its last batch."""

    seq: Seq
    received_at: Micros


Key = tuple[NodeId, str]
"""A node and a spec ("" in the tables that have none)."""


class ClickHouseStore:
    """Appends batches. One writer per node; positions may be asked from any thread.

    After a failure the positions are read from the store again before anything is sent, and not
    before the insert in doubt has ended there.
    """

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clickhouse = clickhouse
        self._known: dict[Table, dict[Key, Reached]] = {}
        self._prepared = False
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Create what is missing of the schema."""
        if self._prepared:
            return
        script = resources.files("storage.clickhouse").joinpath("schema.sql").read_text()
        lines = [line for line in script.splitlines() if not line.startswith("--")]
        for statement in "\n".join(lines).split(";"):
            if statement.strip():
                self.clickhouse.command(statement)
        self._prepared = True

    def positions(self, table: Table) -> Mapping[Key, Reached]:
        """The position of every (node, spec) that has one, as the rows say.

        Raises:
            StoreUnavailable: no answer, or an insert of ours is still running there.
            StoreInconsistent: the batches leave a gap or overlap.
        """
        with self._lock:
            if table not in self._known:
                self.prepare()
                self._await_inserts()
                rows = self.clickhouse.query(POSITIONS.replace("{table}", table))
                self._known[table] = _chains(table, rows)
            return dict(self._known[table])

    def append(self, batch: Batch) -> None:
        """Store one batch after the position of its (node, specs), whole or not at all.

        Raises:
            StoreUnavailable: it may be there. Ask :meth:`positions` before sending it again.
        """
        rows = insertable(batch)
        query_id = f"{self._prefix}{batch.token}-{uuid.uuid4().hex[:8]}"
        try:
            self.clickhouse.insert(batch.table, rows, token=batch.token, query_id=query_id)
        except BaseException:
            with self._lock:
                self._known.clear()
            raise
        reached = Reached(seq=batch.last, received_at=Micros(batch.received_at))
        with self._lock:
            known = self._known.setdefault(batch.table, {})
            known.update({(batch.node, spec): reached for spec in batch.specs or ("",)})

    def drop(self) -> None:
        """Drop every table and create them empty."""
        try:
            for table in Table:
                self.clickhouse.command(f"DROP TABLE IF EXISTS {table} SYNC")
        finally:  # some may be gone even where one could not be dropped
            with self._lock:
                self._known.clear()
                self._prepared = False
        self.prepare()

    @property
    def _prefix(self) -> str:
        return f"tallyman-insert-{self.clickhouse.address.database}-"

    def _await_inserts(self) -> None:
        running = self.clickhouse.query(IN_FLIGHT, {"prefix": self._prefix})
        if running.height and running["running"][0]:
            raise StoreUnavailable("an insert whose answer was lost is still running")


def _chains(table: Table, rows: pl.DataFrame) -> dict[Key, Reached]:
    """Positions from the sum of all batches: without gap or overlap they are as many records."""
    parts: dict[Key, list[tuple[int, int, int, int]]] = defaultdict(list)
    for node, specs, *numbers in rows.iter_rows():
        first, last, records, received = numbers
        for spec in specs or ("",):
            parts[NodeId(node), spec].append((first, last, records, received))
    reached = {}
    for key, chain in parts.items():
        last = max(part[1] for part in chain)
        if min(part[0] for part in chain) != 1 or sum(part[2] for part in chain) != last:
            raise StoreInconsistent(
                f"ClickHouse table {table}: the batches of node {key[0]} {key[1]} do not follow "
                f"each other up to {last}; rebuild clickhouse"
            )
        received_at = Micros(max(part[3] for part in chain))
        reached[key] = Reached(seq=Seq(last), received_at=received_at)
    return reached
