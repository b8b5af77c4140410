"""The cells reader: adds up what the facts reader has sealed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from api.readers.base import Pace, Reader, Specs
from api.readers.sealing import SealableTail
from catalog.ids import NodeId, Seq
from catalog.snapshot import Catalog
from rating.cuts import Cuts, cuts_of
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import ParquetFacts


class KeptCuts:
    """The cuts of the catalog, worked out when it has changed.

    :meth:`refresh` may take a second with many contracts, so the reader calls it; what answers
    requests takes the last ones, which is all the same to the numbers.
    """

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._revision = -1
        self.last = Cuts()

    def refresh(self) -> Cuts:
        """Those of the catalog as it is now."""
        catalog = self._catalog()
        if catalog.revision != self._revision:
            self.last, self._revision = cuts_of(catalog), catalog.revision
        return self.last


class CellsReader(Reader):
    """Keeps the cells of every spec level with its files of facts.

    What is not sealed yet is in no cell: it is counted from the facts in memory. So the cells are
    level as soon as they hold what the files hold.
    """

    def __init__(
        self,
        *,
        tails: Callable[[], Mapping[NodeId, SealableTail]],
        specs: Specs,
        facts: ParquetFacts,
        cells: ParquetCells,
        cuts: KeptCuts,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(name="cells", tails=tails, pace=pace or Pace(poll_s=0.25))
        self._sealable = tails
        self._specs = specs
        self._facts = facts
        self._cells = cells
        self._cuts = cuts

    def step(self) -> bool:
        """One run of every spec and node that has one due: short ones first, then longer ones."""
        worked, specs = False, self._specs()
        for spec in specs:
            for node in self._facts.nodes(spec):
                file = self._cells.due(spec, node)
                if file is not None:
                    self._cells.extend(spec, file, self._cuts.refresh())
                    worked = True
                elif self._cells.merge(spec, node) is not None:
                    worked = True
        if specs and not worked:
            for spec in self._cells.specs:
                if spec not in specs:
                    self._cells.forget(spec)
        return worked

    def positions(self) -> dict[NodeId, Seq]:
        """How far every spec is, by node: all the way where every sealed segment is in cells."""
        found = {}
        for node, tail in self._sealable().items():
            segments = tail.segments()
            sealed = segments[-1].last_seq if segments else Seq(0)
            piles = (self._cells.pile(spec, node).reached for spec in self._specs())
            reached = min(piles, default=sealed)
            found[node] = tail.durable().seq if reached >= sealed else reached
        return found

    def drop(self) -> None:
        """Forget all cells; the next steps make them of the facts again."""
        self._cells.drop()
