"""A worker's process: the real sealer, ClickHouse reader and copies reader over the logs.

What the copies reader keeps is on the real disk, in a directory of its own: it may die at any call
that reads a node's log, and what it wrote stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.readers.base import Pace
from api.readers.clickhouse import ClickHouseReader
from api.readers.copies import CopiesHome, CopiesReader
from api.readers.sealing import Sealer
from api.readers.tails import CompensationTail, nodes_on_disk
from catalog.clock import Clock, Micros
from catalog.ids import NodeId, SpecId
from catalog.meters import FactSpec
from storage.clickhouse.store import ClickHouseStore
from storage.copies.names import compensations_node
from storage.log.follower import LogFollower
from tests.simulation.files import Disk, ProcessFiles, Rates
from tests.simulation.store import MemoryClickHouse


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesPlace:
    """Where copies are looked for, and for how long."""

    directory: Path
    clock: Clock
    window_us: int


class Worker:
    """The readers, for one life of their process."""

    def __init__(
        self,
        disk: Disk,
        rates: Rates,
        *,
        home: Path,
        nodes: Sequence[str],
        clickhouse: MemoryClickHouse,
        specs: Mapping[SpecId, FactSpec],
        rows_max: int,
        copies: CopiesPlace | None,
    ) -> None:
        self.files = ProcessFiles(disk, rates)
        self._home = home
        self._nodes = [NodeId(node) for node in nodes]
        sealed = self._tails()
        read: dict[NodeId, LogFollower | CompensationTail] = dict(self._tails())
        self.copies = copies and self._copies(copies, read)
        self.sealer = Sealer(tails=lambda: sealed)
        self.reader = ClickHouseReader(
            tails=lambda: read,
            specs=lambda: specs,
            store=ClickHouseStore(clickhouse),
            pace=Pace(rows_max=rows_max),
        )

    def _copies(
        self, copies: CopiesPlace, read: dict[NodeId, LogFollower | CompensationTail]
    ) -> CopiesReader:
        nodes = copies.directory / "nodes"
        name = compensations_node(nodes_on_disk(nodes), prefix="n")
        followed, earlier = self._tails(), self._tails()
        reader = CopiesReader(
            home=CopiesHome(
                nodes=nodes,
                node=name,
                scratch=copies.directory / "scratch",
                clock=copies.clock,
                window_us=copies.window_us,
            ),
            tails=lambda: followed,
            earlier=lambda: earlier,
            watermark=lambda: Micros(min(t.durable().received_at for t in followed.values())),
            pace=Pace(rows_max=7),
        )
        own = LogFollower(nodes / name, name)
        read[name] = CompensationTail(own, through=lambda: reader.through)
        return reader

    def _tails(self) -> dict[NodeId, LogFollower]:
        return {
            node: LogFollower(self._home / node, node, files=self.files) for node in self._nodes
        }

    def read(self) -> bool:
        """One step of the reader, as if a second had passed."""
        self.reader._gathering.clear()
        return self.reader.step()

    def seal(self) -> bool:
        """One step of the sealer."""
        return self.sealer.step()

    def find_copies(self) -> bool:
        """One step of the copies reader, where there is one."""
        return bool(self.copies) and self.copies.step()

    def died(self) -> None:
        """The process ended: the lock of the readers' own log is free again."""
        self.files.die()
        if self.copies:
            self.copies.close()
