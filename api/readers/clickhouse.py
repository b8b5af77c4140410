"""The ClickHouse reader: events, facts and compensations, in batches of at most a second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from api.readers.base import Pace, Reader, Tail, Tails, is_past
from api.readers.facts import Specs
from api.readers.pages import Page, next_page, voids_of, within
from catalog.clock import Micros, to_micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from ingest.extract import extract_facts
from storage.clickhouse.batches import Batch, Table, cut
from storage.clickhouse.client import StoreUnavailable
from storage.clickhouse.store import ClickHouseStore, Reached

Output = tuple[Table, str]
"""What has a position of its own: a table, and a spec of the facts table ("" for the others)."""
START = Reached(seq=Seq(0), received_at=Micros(0))
BATCH_AGE_S_MAX = 1.0
STORED_KINDS = (RecordKind.EVENT.value, RecordKind.VOID.value, RecordKind.COLLAPSED.value)


class ClickHouseReader(Reader):
    """Sends each node's log to ClickHouse, each table from where that table itself stands.

    One insert is one part. After a failure the store is asked what arrived before anything is
    sent again; ingest does not notice. It is also the :class:`rating.ports.SpecPositions` of
    facts read from ClickHouse.
    """

    def __init__(
        self, *, tails: Tails, specs: Specs, store: ClickHouseStore, pace: Pace | None = None
    ) -> None:
        super().__init__(name="clickhouse", tails=tails, pace=pace or Pace(poll_s=0.25))
        self._specs = specs
        self._store = store
        self._scanned: dict[tuple[NodeId, Output], Reached] = {}
        """How far each log was looked at beyond what is stored: nothing but heartbeats and the
        like, which are not worth a part of their own."""
        self._awaited = False
        self._sent_at: dict[NodeId, float] = {}

    def step(self) -> bool:
        """One page of every node's log into each table that has not got it."""
        specs = self._specs()
        stored = self._stored()
        worked, broken = False, None
        for node, tail in self.tails().items():
            try:
                worked |= self._step_node(node, tail, specs, stored)
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - raised below, after the other nodes
                broken = error
        if broken is not None:
            raise broken
        self._awaited &= worked
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
                    self._awaited = True
                    self.wake()
                    return False
        return True

    def drop(self) -> None:
        """Empty the tables; the next steps replay the log. Only while the loop is paused."""
        self._scanned.clear()
        self._sent_at.clear()
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
        durable = tail.durable().seq
        if page is None or page.after >= durable or not self._is_due(node, durable - page.after):
            return False
        records = within(tail.read_after(page.after, rows_max=self.pace.rows_max), page.until)
        records = cut(records)
        if records.is_empty():
            return False
        self._sent_at[node] = time.monotonic()
        last = Reached(
            seq=Seq(int(records["seq"][-1])), received_at=to_micros(records["received_at"][-1])
        )
        if records["kind"].is_in(STORED_KINDS).any():
            for batch in self._batches(node, records, page, specs, stored):
                self._store.append(batch)
        for output in page.keys:
            self._scanned[node, output] = last
        return True

    def _is_due(self, node: NodeId, waiting: int) -> bool:
        """A full page (or when a question waits) at once, else once a second: parts are few."""
        age_s = time.monotonic() - self._sent_at.get(node, 0.0)
        return self._awaited or waiting >= self.pace.rows_max or age_s >= BATCH_AGE_S_MAX

    def _batches(
        self,
        node: NodeId,
        records: pl.DataFrame,
        page: Page[Output],
        specs: Mapping[SpecId, FactSpec],
        stored: Mapping[tuple[NodeId, Output], Reached],
    ) -> Iterable[Batch]:
        """One batch for each table and stored position (they differ by heartbeats skipped)."""
        groups: dict[tuple[Table, Seq], list[str]] = {}
        for table, spec in page.keys:
            place = stored.get((node, (table, spec)), START).seq
            groups.setdefault((table, place), []).append(spec)
        for (table, place), names in groups.items():
            chosen = tuple(names) if table is Table.FACTS else ()
            yield Batch(
                table=table,
                node=node,
                first=Seq(place + 1),
                last=Seq(int(records["seq"][-1])),
                received_at=to_micros(records["received_at"][-1]),
                rows=_rows(table, records, node, [specs[SpecId(name)] for name in chosen]),
                specs=chosen,
            )


def _outputs(specs: Iterable[SpecId]) -> list[Output]:
    return [(Table.EVENTS, ""), (Table.VOIDS, ""), *((Table.FACTS, spec) for spec in specs)]


def _rows(
    table: Table, records: pl.DataFrame, node: NodeId, specs: Sequence[FactSpec]
) -> pl.DataFrame:
    match table:
        case Table.EVENTS:
            events = records.filter(pl.col("kind") == RecordKind.EVENT.value)
            return events.with_columns(node=pl.lit(node))
        case Table.FACTS:
            return extract_facts(records, specs, node=node)
        case Table.VOIDS:
            return voids_of(records, node=node)
