"""Records by seq, wherever they are: sealed segments, closed hot files, the current one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import polars as pl

from catalog.events import RECORDS
from catalog.ids import NodeId
from ingest.batch import to_records
from storage.log.files import Files
from storage.log.frames import LogCorrupt, Stored
from storage.log.hot import HotFile
from storage.log.layout import Layout, SegmentRange, read_layout
from storage.log.mark import Mark
from storage.log.sealed import Manifest, check_digest, read_manifest, read_segment

NO_RECORDS = RECORDS.to_frame()
SEGMENT_BLOCK_ROWS = 1 << 14
_VANISHED_RETRIES = 5
T = TypeVar("T")


def as_stored(records: pl.DataFrame) -> Stored:
    """RECORDS as the log stores them."""
    numbers = records.select("seq", pl.col("received_at").dt.epoch("us"))
    return Stored(to_records(records), *(column.to_numpy() for column in numbers))


class _SealedSource:
    """A segment whose digest was checked when it was opened; keeps the last block decoded."""

    def __init__(self, manifest: Manifest, *, files: Files) -> None:
        check_digest(manifest, files=files)
        self._manifest = manifest
        self._files = files
        self._start = 0
        self._rows = NO_RECORDS

    def read_frame(self, seq: int) -> pl.DataFrame:
        """RECORDS of the block that holds ``seq``."""
        self._load(seq, 1)
        return self._rows

    def stored(self, seq: int, *, rows_max: int) -> None:
        """Null: a segment is not stored as records were appended."""
        del seq, rows_max

    def read(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """RECORDS from ``seq`` on: at least one, at most ``rows_max``."""
        row = self._load(seq, rows_max)
        return self._rows.slice(row - self._start, rows_max)

    def _load(self, seq: int, rows: int) -> int:
        """Decode the block of at least ``rows`` rows that holds ``seq``; the row of ``seq``."""
        row = seq - self._manifest.first_seq
        if not self._start <= row < self._start + self._rows.height:
            self._start = row - row % SEGMENT_BLOCK_ROWS
            wanted = max(SEGMENT_BLOCK_ROWS, rows + row - self._start)
            self._rows = read_segment(
                self._manifest, files=self._files, start=self._start, rows_max=wanted
            )
        return row


class LogReader:
    """Reads one node's log while it is written, rolled and sealed by others.

    ``mark`` says how far it may read. It remembers where in a file it is, so that following the
    log never scans anything twice. Not thread-safe.
    """

    def __init__(
        self, directory: Path, node: NodeId, *, files: Files, mark: Callable[[], Mark]
    ) -> None:
        self._directory = directory
        self._node = node
        self._files = files
        self._mark = mark
        self._layout: Layout | None = None
        self._hots: dict[int, HotFile] = {}
        self._sealed: tuple[SegmentRange, _SealedSource] | None = None
        self._adopted: HotFile | None = None

    def adopt(self, hot: HotFile) -> None:
        """Use the writer's own file, whose index needs no scan."""
        self._adopted = hot

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """The records behind ``seq``, contiguous and durable; none only when there are none.

        Raises:
            LogCorrupt: they cannot be read back.
        """
        mark = self._mark()
        rows = min(rows_max, mark.seq - seq)
        if rows <= 0:
            return NO_RECORDS
        return self._retry(lambda: self._source(seq + 1, mark).read(seq + 1, rows_max=rows))

    def stored_after(self, seq: int, *, rows_max: int) -> list[Stored]:
        """The records behind ``seq`` as they are stored, about ``rows_max``; none at the end.

        Raises:
            LogCorrupt: they cannot be read back.
        """
        mark = self._mark()
        if seq >= mark.seq:
            return []

        def read() -> list[Stored]:
            source = self._source(seq + 1, mark)
            stored = source.stored(seq + 1, rows_max=rows_max)
            if stored is not None:
                return stored
            return [as_stored(source.read(seq + 1, rows_max=rows_max))]

        return self._retry(read)

    def frame_of(self, seq: int) -> pl.DataFrame:
        """The records stored together with ``seq``, which must be durable."""
        mark = self._mark()
        return self._retry(lambda: self._source(seq, mark).read_frame(seq))

    def _retry(self, read: Callable[[], T]) -> T:
        """Run ``read`` again when a hot file was sealed under it."""
        for _ in range(_VANISHED_RETRIES):
            try:
                return read()
            except FileNotFoundError:
                self._layout = None
        return read()

    def _source(self, seq: int, mark: Mark) -> HotFile | _SealedSource:
        """The open source that holds ``seq``."""
        if seq >= mark.file:
            return self._extended(mark.file, seq, mark)
        for hot in self._hots.values():
            if hot.first_seq <= seq < hot.next_seq:
                return hot  # still open: sealed meanwhile or not, it says the same
        layout = self._layout
        if layout is None or seq > layout.sealed_until:
            layout = self._layout = read_layout(self._directory, files=self._files)
        if seq <= layout.sealed_until:
            at = bisect_right(layout.segments, seq, key=lambda s: s.first_seq) - 1
            return self._open_segment(layout.segments[at])
        at = bisect_right(layout.hots, seq) - 1
        if at < 0:
            raise LogCorrupt(f"record {seq} is missing", file=str(self._directory), offset=0)
        return self._extended(layout.hots[at], seq, mark)

    def _open_segment(self, segment: SegmentRange) -> _SealedSource:
        if self._sealed is None or self._sealed[0] != segment:
            manifest = read_manifest(self._directory, segment, node=self._node, files=self._files)
            self._sealed = (segment, _SealedSource(manifest, files=self._files))
        return self._sealed[1]

    def _extended(self, first_seq: int, seq: int, mark: Mark) -> HotFile:
        """The hot file that begins with ``first_seq``, its index grown to hold ``seq``."""
        hot = self._open_hot(first_seq)
        if seq >= hot.next_seq:
            hot.extend(mark.offset if first_seq == mark.file else hot.size())
        if seq >= hot.next_seq:
            raise LogCorrupt(f"record {seq} is missing", file=str(hot.path), offset=hot.end)
        return hot

    def _open_hot(self, first_seq: int) -> HotFile:
        if self._adopted is not None and self._adopted.first_seq == first_seq:
            return self._adopted
        if first_seq not in self._hots:
            self._forget(before=first_seq)
            self._hots[first_seq] = HotFile.open(
                self._directory, first_seq=first_seq, node=self._node, files=self._files
            )
        return self._hots[first_seq]

    def _forget(self, *, before: int) -> None:
        for first_seq in [first for first in self._hots if first < before]:
            self._hots.pop(first_seq).close()

    def close(self) -> None:
        """Close what is open. The adopted file stays the writer's."""
        for hot in self._hots.values():
            hot.close()
        self._hots.clear()
