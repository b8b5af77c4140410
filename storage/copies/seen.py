"""Where each identity that counts was received, over all nodes, for the window.

Two generations, each as long as the window by receipt: the one being filled and the one before.
Together they hold at least the window, and a generation is forgotten as a whole. What is recent is
in memory, the rest in sorted runs on disk, like a gateway's own index; but this one is filled anew
from the logs at every start.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from ingest.identity import identify
from storage.log.files import OsFiles
from storage.log.identity.keys import U64, Entries, Found, Keys
from storage.log.identity.run import Run, RunRange, merged, write_run
from storage.log.identity.runs import RunSet, covering
from storage.log.identity.table import RecentTable

TABLE_ROWS = 1 << 18
FOREVER_US = 1 << 62


class _Generation:
    """The identities that were received in one era. Each is in it once."""

    def __init__(self, directory: Path, *, table_rows: int) -> None:
        self._directory = directory
        self._rows = table_rows
        self._table = RecentTable(table_rows)
        self._runs = RunSet()
        self._count = 0
        directory.mkdir(parents=True)

    def probe(self, keys: Keys, found: Found) -> None:
        self._table.probe(keys, found)
        self._runs.probe(keys, found)

    def insert(self, keys: Keys, places: U64) -> None:
        at, rows = 0, len(places)
        numbers = np.arange(self._count + 1, self._count + rows + 1)
        entries = Entries(keys, places, numbers)
        while at < rows:
            stop = min(rows, at + self._rows - self._table.count)
            self._table.insert(entries.part(at, stop), received=(0, 0))
            at = stop
            if self._table.count == self._rows:
                self._spill()
        self._count += rows

    def _spill(self) -> None:
        table, self._table = self._table, RecentTable(self._rows)
        covers = RunRange(
            first_seq=table.first_seq,
            last_seq=table.last_seq,
            first_received_at=0,
            last_received_at=0,
        )
        write_run(self._directory, covers, table.sorted(), count=table.count, files=FILES)
        self._put((), Run(self._directory, covers, files=FILES, check=False))
        while group := self._runs.to_merge(smallest=self._rows, span_us_max=FOREVER_US):
            covers, count = covering(group), sum(run.count for run in group)
            write_run(self._directory, covers, merged(group), count=count, files=FILES)
            self._put(group, Run(self._directory, covers, files=FILES, check=False))
            for run in group:
                FILES.unlink(self._directory / run.covers.name)

    def _put(self, gone: tuple[Run, ...], run: Run) -> None:
        self._runs = self._runs.without(gone, instead=(run,))


FILES = OsFiles()


class SeenIdentities:
    """Which identities count, and where each of them is, for at least the window.

    A place is a number above 0 that means something to the caller. One thread uses it.
    """

    def __init__(self, directory: Path, *, window_us: int, table_rows: int = TABLE_ROWS) -> None:
        """Begin empty; what a process before this one left in ``directory`` is removed."""
        self._directory = directory
        self._window_us = window_us
        self._table_rows = table_rows
        self._generations: dict[int, _Generation] = {}
        self._key = np.array([secrets.randbits(64) for _ in range(2)], np.uint64)
        shutil.rmtree(directory, ignore_errors=True)

    def era(self, received_at: int) -> int:
        """The era an instant belongs to. What is inserted together must be of one."""
        return received_at // self._window_us

    def keys(self, identities: pl.DataFrame) -> Keys:
        """128 bits for each row's ``source`` and ``id``."""
        columns = [_texts(identities.get_column(name)) for name in ("source", "id")]
        return Keys(*identify(*columns, key=self._key))

    def probe(self, keys: Keys) -> list[U64]:
        """The place of each identity in each generation kept, 0 where it is not, newest first."""
        found = []
        for era in sorted(self._generations, reverse=True):
            one = Found.nothing(len(keys.low))
            self._generations[era].probe(keys, one)
            found.append(one.content)
        return found

    def insert(self, keys: Keys, places: U64, *, era: int) -> None:
        """Remember identities that are all different and not known in this era.

        Those of an era that is forgotten already are not worth it.
        """
        if not len(places) or era < max(self._generations, default=era) - 1:
            return
        if era not in self._generations:
            self._generations[era] = _Generation(
                self._directory / str(era), table_rows=self._table_rows
            )
            for old in [known for known in self._generations if known < era - 1]:
                del self._generations[old]
                shutil.rmtree(self._directory / str(old), ignore_errors=True)
        self._generations[era].insert(keys, places)


def _texts(column: pl.Series) -> pa.StringArray:
    """A column of strings as Arrow has them."""
    return column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
