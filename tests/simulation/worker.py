"""A worker's process: the real sealer and the real ClickHouse reader over the followed logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from api.readers.base import Pace
from api.readers.clickhouse import ClickHouseReader
from api.readers.sealing import Sealer
from catalog.ids import NodeId, SpecId
from catalog.meters import FactSpec
from storage.clickhouse.store import ClickHouseStore
from storage.log.follower import LogFollower
from tests.simulation.files import Disk, ProcessFiles, Rates
from tests.simulation.store import MemoryClickHouse


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
    ) -> None:
        self.files = ProcessFiles(disk, rates)
        self._home = home
        self._nodes = [NodeId(node) for node in nodes]
        sealed, read = self._tails(), self._tails()
        self.sealer = Sealer(tails=lambda: sealed)
        self.reader = ClickHouseReader(
            tails=lambda: read,
            specs=lambda: specs,
            store=ClickHouseStore(clickhouse),
            pace=Pace(rows_max=rows_max),
        )

    def _tails(self) -> dict[NodeId, LogFollower]:
        return {
            node: LogFollower(self._home / node, node, files=self.files) for node in self._nodes
        }

    def read(self) -> bool:
        """One step of the reader, as if a second had passed."""
        self.reader._sent_at.clear()
        return self.reader.step()

    def seal(self) -> bool:
        """One step of the sealer."""
        return self.sealer.step()
