"""ParquetCells: the runs of every spec and node, made of the files of facts.

Nothing but the names of the files says how far they are; a run is there whole or not at all.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.events import FACTS
from catalog.ids import NodeId, Seq, SpecId
from rating.cuts import Cuts
from rating.kept import Kept
from storage.parquet.cells.rows import added, rolled
from storage.parquet.cells.runs import Pile, Run, list_runs, run_name
from storage.parquet.cells.taken import Taken
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from storage.parquet.files import FactsFile, write_durably
from storage.parquet.query import bounded

HELD_BYTES_MAX = 512 << 20
EMPTY = Pile({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Records ``[first, last]`` of one node's log, for one spec; received up to ``as_of``."""

    spec: SpecId
    node: NodeId
    first: int
    last: int
    as_of: Micros | None = None

    def anything(self, source: ParquetFacts) -> bool:
        """Whether there may be a fact or a compensation in it, by what files and tails there are.

        An empty answer is found without reading anything.
        """
        if self.last < self.first:
            return False
        keys = (self.spec, VOIDS_KEY)
        return any(source.any_held(key, self.node, first=self.first) for key in keys)

    def facts(
        self, source: ParquetFacts, spans: pl.DataFrame | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame, tuple[int, int]]:
        """The facts that count in it, the earlier ones it takes back, and when all was received.

        With SPANS (of its spec): at least what is in them.
        """
        node, log = self.node, (self.first, self.last)
        if self.last < self.first:
            return FACTS.to_frame(), FACTS.to_frame(), (0, 0)
        own = source.stretch(self.spec, node, first=self.first, last=self.last)
        if self.as_of is not None:
            own = own.filter(pl.col("received_at") <= pl.lit(to_datetime(self.as_of)))
        rows = (own if spans is None else bounded(own, spans)).collect()
        taken = Taken.of(source, node, stretch=log, as_of=self.as_of)
        earlier = source.named(self.spec, node, taken.earlier)
        times = pl.concat([rows["received_at"], taken.received]).to_physical()
        low, high = times.min(), times.max()
        received = (low, high) if isinstance(low, int) and isinstance(high, int) else (0, 0)
        return taken.standing(rows), earlier, received


class ParquetCells:
    """Cells under one directory. One writer thread, any number of readers."""

    def __init__(
        self, directory: Path, facts: ParquetFacts, *, held_bytes_max: int = HELD_BYTES_MAX
    ) -> None:
        self._directory = directory
        self._facts = facts
        self._lock = threading.Lock()
        self._piles: dict[SpecId, dict[NodeId, Pile]] = {}
        self._held: Kept[Path, pl.DataFrame] = Kept(held_bytes_max)
        self.generation = 0
        """How often all was dropped: what was made of cells before is not to be gone on with."""
        self._load()

    def _load(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if path.is_dir():
                self._piles[SpecId(path.name)] = list_runs(path)

    def piles(self, spec: SpecId) -> dict[NodeId, Pile]:
        """The runs of ``spec`` by node: one consistent view."""
        with self._lock:
            return dict(self._piles.get(spec, {}))

    def pile(self, spec: SpecId, node: NodeId) -> Pile:
        """The runs of ``spec`` of one node."""
        return self.piles(spec).get(node, EMPTY)

    def due(self, spec: SpecId, node: NodeId) -> FactsFile | None:
        """The next file of facts to add up: one whose compensations are in a file as well."""
        reached = self.pile(spec, node).reached
        sealed = self._facts.state(VOIDS_KEY, node).sealed
        files = self._facts.state(spec, node).files
        return next((f for f in files if f.first == reached + 1 and f.last <= sealed), None)

    def extend(self, spec: SpecId, file: FactsFile, cuts: Cuts) -> Run:
        """Write the run of ``file``, the one that :meth:`due` named.

        Raises:
            OSError: nothing changed.
        """
        stretch = Stretch(spec=spec, node=file.node, first=file.first, last=file.last)
        facts, taken, received = stretch.facts(self._facts)
        rows = rolled(facts, taken=taken, cuts=cuts)
        return self._put(spec, file.node, (file.first, file.last), received, rows)

    def merge(self, spec: SpecId, node: NodeId) -> Run | None:
        """Write the next longer run that its parts are there for; None where none is due."""
        parts = self.pile(spec, node).mergeable()
        if not parts:
            return None
        rows = added([self.frame(part) for part in parts])
        lows, highs = [p.since for p in parts if p.until], [p.until for p in parts]
        received = (min(lows, default=0), max(highs))
        return self._put(spec, node, (parts[0].first, parts[-1].last), received, rows)

    def frame(self, run: Run) -> pl.DataFrame:
        """CELLS of a run, held in memory as long as there is room."""
        held = self._held.get(run.path)
        if held is not None:
            return held
        rows = pl.read_parquet(run.path)
        self._held.put(run.path, rows, size=int(rows.estimated_size()))
        return rows

    @property
    def specs(self) -> tuple[SpecId, ...]:
        """The specs that anything is held for."""
        with self._lock:
            return tuple(self._piles)

    def forget(self, spec: SpecId) -> None:
        """Drop what is held for one spec that nobody asks for any more."""
        with self._lock:
            self._piles.pop(spec, None)
        shutil.rmtree(self._directory / spec, ignore_errors=True)

    def drop(self) -> None:
        """Forget everything. What reads meanwhile may fail and be retried."""
        with self._lock:
            self._piles = {}
            self._held.clear()
            self.generation += 1
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)

    def _put(
        self,
        spec: SpecId,
        node: NodeId,
        log: tuple[int, int],
        received: tuple[int, int],
        rows: pl.DataFrame,
    ) -> Run:
        since, until = received
        path = self._directory / spec / run_name(node=node, log=log, received=received)
        write_durably(rows, path)
        run = Run(
            node=node, first=Seq(log[0]), last=Seq(log[1]), since=since, until=until, path=path
        )
        with self._lock:
            piles = self._piles.setdefault(spec, {})
            piles[node] = piles.get(node, EMPTY).plus(run)
        return run
