"""Records by seq, wherever they are: sealed segments, closed hot files, the current one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import polars as pl

from catalog.events import RECORDS
from catalog.ids import NodeId
from storage.log.files import Files
from storage.log.frames import LogCorrupt
from storage.log.hot import HotFile
from storage.log.layout import Layout, SegmentRange, read_layout
from storage.log.mark import Mark
from storage.log.sealed import Manifest, check_digest, read_manifest, read_segment

NO_RECORDS = RECORDS.to_frame()
SEGMENT_BLOCK_ROWS = 1 << 14
_VANISHED_RETRIES = 5


class _SealedSource:
    """A segment whose digest was checked when it was opened; keeps the last block decoded."""

    def __init__(self, manifest: Manifest, *, files: Files) -> None:
        check_digest(manifest, files=files)
        self._manifest = manifest
        self._files = files
        self._start = -1
        self._rows = NO_RECORDS

    def block(self, seq: int, *, rows: int) -> pl.DataFrame:
        """The decoded rows around ``seq``: those of its block of at least ``rows`` rows."""
        row = seq - self._manifest.first_seq
        if not 0 <= row - self._start < self._rows.height or self._start < 0:
            self._start = row - row % SEGMENT_BLOCK_ROWS
            wanted = max(SEGMENT_BLOCK_ROWS, rows + row - self._start)
            self._rows = read_segment(
                self._manifest, files=self._files, start=self._start, rows_max=wanted
            )
        return self._rows

    def read(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """RECORDS from ``seq`` on: at least one, at most ``rows_max``."""
        rows = self.block(seq, rows=rows_max)
        return rows.slice(seq - self._manifest.first_seq - self._start, rows_max)


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
        return self._retry(lambda: self._read(seq + 1, rows, mark))

    def frame_of(self, seq: int) -> pl.DataFrame:
        """The records stored together with ``seq``, which must be durable."""
        mark = self._mark()
        return self._retry(lambda: self._block(seq, mark))

    def _retry(self, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Run ``read`` again when a hot file was sealed under it."""
        for _ in range(_VANISHED_RETRIES):
            try:
                return read()
            except FileNotFoundError:
                self._layout = None
        return read()

    def _read(self, seq: int, rows: int, mark: Mark) -> pl.DataFrame:
        segment = self._segment(seq, mark)
        if segment is not None:
            return self._open_segment(segment).read(seq, rows_max=rows)
        return self._hot(seq, mark).read(seq, rows_max=rows)

    def _block(self, seq: int, mark: Mark) -> pl.DataFrame:
        segment = self._segment(seq, mark)
        if segment is not None:
            return self._open_segment(segment).block(seq, rows=1)
        return self._hot(seq, mark).read_frame(seq)

    def _segment(self, seq: int, mark: Mark) -> SegmentRange | None:
        if seq >= mark.file or any(self._holds(hot, seq) for hot in self._hots.values()):
            return None  # still open, sealed meanwhile or not
        layout = self._layout
        if layout is None or seq > layout.sealed_until:
            layout = self._refresh()
        if seq > layout.sealed_until:
            return None
        at = bisect_right(layout.segments, seq, key=lambda s: s.first_seq) - 1
        return layout.segments[at]

    def _open_segment(self, segment: SegmentRange) -> _SealedSource:
        if self._sealed is None or self._sealed[0] != segment:
            manifest = read_manifest(self._directory, segment, node=self._node, files=self._files)
            self._sealed = (segment, _SealedSource(manifest, files=self._files))
        return self._sealed[1]

    @staticmethod
    def _holds(hot: HotFile, seq: int) -> bool:
        return hot.first_seq <= seq < hot.next_seq

    def _hot(self, seq: int, mark: Mark) -> HotFile:
        hot = self._open_hot(self._hot_first(seq, mark))
        if seq >= hot.next_seq:
            hot.extend(mark.offset if hot.first_seq == mark.file else hot.size())
        if seq >= hot.next_seq:
            raise LogCorrupt(f"record {seq} is missing", file=str(hot.path), offset=hot.end)
        return hot

    def _hot_first(self, seq: int, mark: Mark) -> int:
        if seq >= mark.file:
            return mark.file
        layout = self._layout or self._refresh()
        at = bisect_right(layout.hots, seq) - 1
        if at < 0:
            raise LogCorrupt(f"record {seq} is missing", file=str(self._directory), offset=0)
        return layout.hots[at]

    def _open_hot(self, first_seq: int) -> HotFile:
        if self._adopted is not None and self._adopted.first_seq == first_seq:
            return self._adopted
        if first_seq not in self._hots:
            self.forget(before=first_seq)
            self._hots[first_seq] = HotFile.open(
                self._directory, first_seq=first_seq, node=self._node, files=self._files
            )
        return self._hots[first_seq]

    def _refresh(self) -> Layout:
        self._layout = read_layout(self._directory, files=self._files)
        return self._layout

    def forget(self, *, before: int) -> None:
        """Close the hot files that begin before ``before``."""
        for first_seq in [first for first in self._hots if first < before]:
            self._hots.pop(first_seq).close()

    def close(self) -> None:
        """Close what is open. The adopted file stays the writer's."""
        for hot in self._hots.values():
            hot.close()
        self._hots.clear()
