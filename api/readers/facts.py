"""The facts reader: keeps Parquet facts level with every node's log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import polars as pl
from prometheus_client import Gauge

from api.readers.base import Pace, Reader, Segment, Specs, is_past
from api.readers.drops import Drops
from api.readers.pages import Gathering, next_page, voids_of
from api.readers.sealing import SealableTail
from api.readers.shared import SharedPages, Wanted
from catalog.clock import Micros, to_micros
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

EXTRACTED = Gauge(
    "tallyman_facts_extracted_ratio", "Part of the log a fact spec was extracted from.", ["spec"]
)


class FactsReader(Reader):
    """Extracts facts once per (event, spec): files for sealed segments, memory for the hot tail.

    A spec that appears in the catalog is replayed from record 1, segment by segment, while the
    others stay where they are. It is also the :class:`rating.ports.SpecPositions` of its facts.
    """

    def __init__(
        self,
        *,
        tails: Callable[[], Mapping[NodeId, SealableTail]],
        specs: Specs,
        facts: ParquetFacts,
        pages: SharedPages | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Prepare; ``pages`` are what other readers of the same logs read, too."""
        super().__init__(name="facts", tails=tails, pace=pace or Pace(poll_s=0.02))
        self._pages = pages or SharedPages(specs)
        self._gathering = Gathering(rows=self.pace.rows_max, age_s=self.pace.gather_s)
        self._sealable = tails
        self._specs = specs
        self._facts = facts
        self._received: dict[tuple[SpecId, NodeId], Micros] = {}
        self.drops = Drops()

    def step(self) -> bool:
        """One segment's files or one page of the tail, on every node."""
        specs = self._specs()
        worked, broken = False, None
        with self._gathering.turn():
            for node, tail in self._sealable().items():
                try:
                    sealed = self._seal_one(node, tail, specs)
                    worked |= sealed or self._follow(node, tail, specs)
                except Exception as error:  # noqa: BLE001 - raised below, after the other nodes
                    broken = error
            if broken is not None:
                raise broken
        if specs and not worked:
            self._forget_others(specs)
        return worked

    def positions(self) -> dict[NodeId, Seq]:
        """How far every spec of the catalog is, by node: the one furthest behind counts."""
        keys = [VOIDS_KEY, *self._specs()]
        return {
            node: min(self._facts.state(key, node).reached for key in keys)
            for node in self._sealable()
        }

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether facts of ``specs``, and compensations, hold every log up to ``as_of``."""
        for node, tail in self._sealable().items():
            durable = tail.durable().seq
            for key in (VOIDS_KEY, *specs):
                behind = self._facts.state(key, node).reached < durable
                received_at = self._received.get((key, node), -1)
                if behind and not is_past(node, received_at, as_of=as_of):
                    self._gathering.ask()
                    self.wake()
                    return False
        return True

    def drop(self) -> None:
        """Forget all facts; the next steps replay the log. Only while the loop is paused."""
        with self.drops.one():
            self._received.clear()
            self._facts.drop()

    def progress(self) -> dict[SpecId, tuple[int, int]]:
        """Records read and records there are, of each spec that is behind."""
        durable = {node: tail.durable().seq for node, tail in self._sealable().items()}
        total = sum(durable.values())
        done = {
            key: sum(min(self._facts.state(key, node).reached, durable[node]) for node in durable)
            for key in self._specs()
        }
        return {key: (count, total) for key, count in done.items() if count < total}

    def _measure(self) -> None:
        super()._measure()
        behind = self.progress()
        for key in self._specs():
            done, total = behind.get(key, (1, 1))
            EXTRACTED.labels(key).set(done / total)

    def _forget_others(self, specs: Collection[SpecId]) -> None:
        """Drop the facts of specs that no catalog has: an earlier version named them otherwise."""
        for key in self._facts.keys:
            if key != VOIDS_KEY and key not in specs:
                with self.drops.one():
                    self._facts.forget(key)

    def _seal_one(self, node: NodeId, tail: SealableTail, specs: Mapping[SpecId, FactSpec]) -> bool:
        """Write the files of the first sealed segment that any spec lacks."""
        sealed = {key: self._facts.state(key, node).sealed for key in (VOIDS_KEY, *specs)}
        behind = min(sealed.values())
        segment = next((s for s in tail.segments() if s.last_seq > behind), None)
        if segment is None:
            return False
        keys = [key for key, place in sealed.items() if place < segment.last_seq]
        held = {key: self._facts.tail_until(key, node, last=segment.last_seq) for key in keys}
        missing = [key for key, rows in held.items() if rows is None]
        read = self._read_segment(node, tail, segment, {k: specs[k] for k in missing if k in specs})
        for key in keys:
            rows = held[key]
            rows = read[key] if rows is None else rows
            self._facts.seal(key, node, last=segment.last_seq, rows=rows)
            if self._facts.state(key, node).reached == segment.last_seq:
                self._received[key, node] = segment.last_received_at
        return True

    def _read_segment(
        self,
        node: NodeId,
        tail: SealableTail,
        segment: Segment,
        specs: Mapping[SpecId, FactSpec],
    ) -> dict[SpecId, pl.DataFrame]:
        """Facts of ``specs``, and the compensations, of one whole segment."""
        pieces: dict[SpecId, list[pl.DataFrame]] = {key: [FACTS.to_frame()] for key in specs}
        voids, place = [VOIDS.to_frame()], Seq(segment.first_seq - 1)
        while place < segment.last_seq:
            wanted = Wanted(after=place, rows_max=self.pace.rows_max, until=segment.last_seq)
            page = self._pages.read(node, tail, wanted, specs=specs)
            if page.records.is_empty():
                raise EOFError(f"{node}: nothing after {place} of a segment to {segment.last_seq}")
            for key, facts in page.facts.items():
                pieces[key].append(facts)
            voids.append(voids_of(page.records, node=node))
            place = Seq(int(page.records["seq"][-1]))
        read = {key: pl.concat(found) for key, found in pieces.items()}
        return read | {VOIDS_KEY: pl.concat(voids)}

    def _follow(self, node: NodeId, tail: SealableTail, specs: Mapping[SpecId, FactSpec]) -> bool:
        """Take one page of what is not sealed into memory."""
        positions = {key: self._facts.state(key, node).reached for key in (VOIDS_KEY, *specs)}
        page = next_page(positions)
        if page is None:
            return False
        waiting = tail.durable().seq - page.after
        if waiting <= 0 or not self._gathering.is_due(node, waiting=waiting):
            return False
        wanted = Wanted(after=page.after, rows_max=self.pace.rows_max, until=page.until)
        chosen = {key: specs[key] for key in page.keys if key != VOIDS_KEY}
        read = self._pages.read(node, tail, wanted, specs=chosen)
        records = read.records
        if records.is_empty():
            return False
        self._gathering.taken(node)
        last, received_at = Seq(int(records["seq"][-1])), to_micros(records["received_at"][-1])
        voids = voids_of(records, node=node)
        for key in page.keys:
            rows = voids if key == VOIDS_KEY else read.of(key)
            self._facts.extend(key, node, last=last, rows=rows)
            self._received[key, node] = received_at
        return True
