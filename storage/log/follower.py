"""Reading a node's log from another process, while its gateway writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from catalog.clock import Micros
from catalog.ids import NodeId, Seq
from storage.log.files import Files, OsFiles
from storage.log.hot import HotFile
from storage.log.layout import MARK_NAME, Layout, SegmentRange, hot_name, read_layout
from storage.log.mark import MarkReader
from storage.log.reader import LogReader
from storage.log.sealed import Manifest, check_digest, read_manifest, seal


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """The last durable record of a node; zeros before the first."""

    seq: Seq
    received_at: Micros


class LogFollower:
    """Tails and seals one node's log without owning it: never past what is durable.

    Takes no lock; the directory may not even exist yet. One thread uses one follower; make
    another for another thread. Only one process may call :meth:`seal_closed`.
    """

    def __init__(self, directory: Path, node: NodeId, *, files: Files | None = None) -> None:
        self._directory = directory
        self._node = node
        self._files = files or OsFiles()
        self._mark = MarkReader(directory / MARK_NAME, files=self._files)
        self._reader = LogReader(directory, node, files=self._files, mark=self._mark.read)
        self._manifests: dict[SegmentRange, Manifest] = {}

    @property
    def node(self) -> NodeId:
        """Whose log this is."""
        return self._node

    def durable(self) -> Durable:
        """How far the log is durable. About a microsecond: poll as often as you like."""
        mark = self._mark.read()
        return Durable(seq=Seq(mark.seq), received_at=Micros(mark.received_at))

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """The RECORDS behind ``seq``: contiguous, durable, at most ``rows_max``.

        May return fewer than there are; returns none only when there are none.

        Raises:
            LogCorrupt: they cannot be read back.
        """
        return self._reader.read_after(seq, rows_max=rows_max)

    def segments(self) -> list[Manifest]:
        """The manifests of the sealed segments, in order of seq.

        Raises:
            LogCorrupt: a segment is missing, or a manifest damaged.
        """
        layout = read_layout(self._directory, files=self._files)
        return [self._manifest(segment) for segment in layout.segments]

    def seal_closed(self) -> list[Manifest]:
        """Seal every hot file the gateway has closed, oldest first. Returns the new segments.

        Raises:
            LogCorrupt: a hot file is damaged; it stays, and so do those after it.
        """
        layout = read_layout(self._directory, files=self._files)
        for first_seq in layout.covered:
            self._drop_covered(layout, first_seq)
        closed = [first for first in layout.hots if first < self._mark.read().file]
        return [self._seal(first_seq) for first_seq in closed]

    def _seal(self, first_seq: int) -> Manifest:
        hot = HotFile.open(self._directory, first_seq=first_seq, node=self._node, files=self._files)
        try:
            return seal(self._directory, hot, node=self._node, files=self._files)
        finally:
            hot.close()

    def _drop_covered(self, layout: Layout, first_seq: int) -> None:
        """Finish a sealing that was cut off between the manifest and the unlink."""
        for segment in layout.segments:
            if segment.first_seq <= first_seq <= segment.last_seq:
                check_digest(self._manifest(segment), files=self._files)
                self._files.unlink(self._directory / hot_name(first_seq))
                self._files.fsync_dir(self._directory)

    def _manifest(self, segment: SegmentRange) -> Manifest:
        if segment not in self._manifests:
            self._manifests[segment] = read_manifest(
                self._directory, segment, node=self._node, files=self._files
            )
        return self._manifests[segment]

    def close(self) -> None:
        """Close what is open."""
        self._reader.close()
        self._mark.close()
