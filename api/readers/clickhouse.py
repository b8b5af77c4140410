"""The ClickHouse reader: events, facts and compensations, in batches of at most a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from api.readers.base import Pace, Reader, Specs, Tail, Tails, is_past
from api.readers.drops import Drops
from api.readers.pages import Gathering, Page, next_page, voids_of
from api.readers.shared import Read, SharedPages, Wanted
from catalog.clock import Micros, to_micros
from catalog.events import FACTS, RecordKind
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from storage.clickhouse.batches import Batch, Table, cut
from storage.clickhouse.client import StoreUnavailable
from storage.clickhouse.store import ClickHouseStore, Reached

Output = tuple[Table, str]
"""What has a position of its own: a table, and a spec of the facts table ("" for the others)."""
START = Reached(seq=Seq(0), received_at=Micros(0))
BATCH_AGE_S_MAX = 1.0
PAGE_ROWS_MAX = 150_000
"""Who is behind sends large parts: a part has its own cost, and about 32 MB are read at once."""
UNMARKED_RECORDS_MAX = 100_000
"""A table that gets nothing is sent a mark of its position this often; so many are scanned again
at a start, which takes a fraction of a second."""


class ClickHouseReader(Reader):
    """Sends each node's log to ClickHouse, each table from where that table itself stands.

    One insert is one part. After a failure the store is asked what arrived before anything is
    sent again; ingest does not notice. It is also the :class:`rating.ports.SpecPositions` of
    facts read from ClickHouse.
    """

    def __init__(
        self,
        *,
        tails: Tails,
        specs: Specs,
        store: ClickHouseStore,
        pages: SharedPages | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Prepare; ``pages`` are what other readers of the same logs read, too."""
        pace = pace or Pace(poll_s=0.25, rows_max=PAGE_ROWS_MAX)
        super().__init__(name="clickhouse", tails=tails, pace=pace)
        self._pages = pages or SharedPages(specs)
        self._gathering = Gathering(rows=pace.rows_max, age_s=BATCH_AGE_S_MAX)
        self._specs = specs
        self._store = store
        self._scanned: dict[tuple[NodeId, Output], Reached] = {}
        """How far each log was looked at beyond what is stored: there was nothing for the table,
        which is not worth a part."""
        self.drops = Drops()

    def step(self) -> bool:
        """One page of every node's log into each table that has not got it."""
        specs = self._specs()
        stored = self._stored()
        worked, broken = False, None
        with self._gathering.turn():
            for node, tail in self.tails().items():
                try:
                    worked |= self._step_node(node, tail, specs, stored)
                except StoreUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - raised below, after the other nodes
                    broken = error
            if broken is not None:
                raise broken
        return worked

    def positions(self) -> dict[NodeId, Seq]:
        """How far every table is, by node: the one furthest behind counts."""
        stored, specs = self._stored(), self._specs()
        return {
            node: min(self._reached(node, output, stored).seq for output in _outputs(specs))
            for node in self.tails()
        }

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether events, compensations and facts of ``specs`` hold every log up to ``as_of``."""
        stored = self._stored()
        outputs = _outputs(specs)
        for node, tail in self.tails().items():
            durable = tail.durable().seq
            for output in outputs:
                reached = self._reached(node, output, stored)
                behind = reached.seq < durable
                if behind and not is_past(node, reached.received_at, as_of=as_of):
                    self._gathering.ask()
                    self.wake()
                    return False
        return True

    def drop(self) -> None:
        """Empty the tables; the next steps replay the log. Only while the loop is paused."""
        with self.drops.one():
            self._scanned.clear()
            self._gathering.clear()
            self._store.drop()

    def _stored(self) -> dict[tuple[NodeId, Output], Reached]:
        return {
            (node, (table, spec)): reached
            for table in Table
            for (node, spec), reached in self._store.positions(table).items()
        }

    def _reached(
        self, node: NodeId, output: Output, stored: Mapping[tuple[NodeId, Output], Reached]
    ) -> Reached:
        held = stored.get((node, output), START)
        scanned = self._scanned.get((node, output), START)
        return max(held, scanned, key=lambda reached: reached.seq)

    def _step_node(
        self,
        node: NodeId,
        tail: Tail,
        specs: Mapping[SpecId, FactSpec],
        stored: Mapping[tuple[NodeId, Output], Reached],
    ) -> bool:
        places = {output: self._reached(node, output, stored).seq for output in _outputs(specs)}
        page = next_page(places)
        if page is None:
            return False
        waiting = tail.durable().seq - page.after
        if waiting <= 0 or not self._gathering.is_due(node, waiting=waiting):
            return False
        wanted = Wanted(after=page.after, rows_max=self.pace.rows_max, until=page.until)
        chosen = {SpecId(spec): specs[SpecId(spec)] for table, spec in page.keys if spec}
        read = self._pages.read(node, tail, wanted, specs=chosen)
        records = cut(read.records)
        if records.is_empty():
            return False
        self._gathering.taken(node)
        self._send(node, Read(records=records, facts=read.facts), page, stored)
        return True

    def _send(
        self,
        node: NodeId,
        read: Read,
        page: Page[Output],
        stored: Mapping[tuple[NodeId, Output], Reached],
    ) -> None:
        """One insert for each table and stored position (they differ by what was skipped)."""
        last = Seq(int(read.records["seq"][-1]))
        received_at = to_micros(read.records["received_at"][-1])
        groups: dict[tuple[Table, Seq], list[str]] = {}
        for table, spec in page.keys:
            place = stored.get((node, (table, spec)), START).seq
            groups.setdefault((table, place), []).append(spec)
        for (table, place), names in groups.items():
            rows = _rows(table, read, node, names)
            if rows.height or last - place >= UNMARKED_RECORDS_MAX:
                batch = Batch(
                    table=table,
                    node=node,
                    first=Seq(place + 1),
                    last=last,
                    received_at=received_at,
                    rows=rows,
                    specs=tuple(names) if table is Table.FACTS else (),
                )
                self._store.append(batch)
            for name in names:
                self._scanned[node, (table, name)] = Reached(seq=last, received_at=received_at)


def _outputs(specs: Iterable[SpecId]) -> list[Output]:
    return [(Table.EVENTS, ""), (Table.VOIDS, ""), *((Table.FACTS, spec) for spec in specs)]


def _rows(table: Table, read: Read, node: NodeId, specs: Sequence[str]) -> pl.DataFrame:
    match table:
        case Table.EVENTS:
            events = read.records.filter(pl.col("kind") == RecordKind.EVENT.value)
            return events.with_columns(node=pl.lit(node))
        case Table.FACTS:
            facts = pl.concat([FACTS.to_frame(), *(read.of(SpecId(name)) for name in specs)])
            return facts.filter(pl.col("seq") <= read.records["seq"][-1])
        case Table.VOIDS:
            return voids_of(read.records, node=node)
