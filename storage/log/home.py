"""What stays the same while a node's hot files come and go: where they are, and the time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

from catalog.clock import SECOND_US, Clock
from catalog.ids import NodeId, Seq
from storage.log.files import Files
from storage.log.frames import LogCorrupt
from storage.log.hot import HotFile
from storage.log.layout import Layout, SegmentRange, read_layout
from storage.log.mark import Mark
from storage.log.sealed import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """When a hot file is closed: by bytes, or by age once it holds more than heartbeats."""

    hot_bytes_max: int = 128 << 20
    hot_age_us_max: int = 3_600 * SECOND_US
    idle_age_us_max: int = 24 * 3_600 * SECOND_US


@dataclass(slots=True)
class Home:
    """A node's directory and its clock, which never repeats or steps back."""

    directory: Path
    node: NodeId
    clock: Clock
    files: Files
    limits: LogLimits
    last_received_at: int = field(default=0, init=False)

    def next_received_at(self) -> int:
        """Now, or the microsecond after the last record when the clock is not past it."""
        return max(self.clock.now_us(), self.last_received_at + 1)

    def mark_of(self, hot: HotFile) -> Mark:
        """The mark that says all of ``hot`` is durable."""
        return Mark(hot.first_seq, hot.end, hot.next_seq - 1, self.last_received_at)

    def create(self, first_seq: int) -> HotFile:
        """A new hot file."""
        return HotFile.create(self.directory, first_seq=first_seq, node=self.node, files=self.files)

    def received_before(self, first_seq: int, layout: Layout) -> int:
        """The ``received_at`` of the record before ``first_seq``, which begins a hot file."""
        earlier = [first for first in layout.hots if first < first_seq]
        if earlier:
            hot = HotFile.open(
                self.directory, first_seq=earlier[-1], node=self.node, files=self.files
            )
            hot.extend(hot.size())
            hot.close()
            if hot.next_seq != first_seq:
                reason = f"it ends before record {hot.next_seq}, and {first_seq} should come next"
                raise LogCorrupt(reason, file=str(hot.path), offset=hot.end)
            return hot.last_received_at
        if layout.segments:
            return self._last_received(layout.segments[-1])
        return 0

    def seq_before(self, received_at: int) -> Seq:
        """The last seq of the last segment that ends before ``received_at``; 0 without one."""
        segments = read_layout(self.directory, files=self.files).segments
        at = bisect_left(segments, received_at, key=self._last_received)
        return Seq(segments[at - 1].last_seq if at else 0)

    def _last_received(self, segment: SegmentRange) -> int:
        manifest = read_manifest(self.directory, segment, node=self.node, files=self.files)
        return manifest.last_received_at
