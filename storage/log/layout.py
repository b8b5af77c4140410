"""What the names in a node's directory say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from storage.log.files import Files
from storage.log.frames import LogCorrupt

LOCK_NAME = "lock"
MARK_NAME = "durable"
INDEX_NAME = "index"
PARTIAL_SUFFIX = ".partial"

_HOT = re.compile(r"hot-(\d{20})\.log")
_MANIFEST = re.compile(r"segment-(\d{20})-(\d{20})\.json")


def hot_name(first_seq: int) -> str:
    """The name of the hot file that begins with ``first_seq``."""
    return f"hot-{first_seq:020d}.log"


def segment_name(first_seq: int, last_seq: int) -> str:
    """The name of a sealed segment, without its suffix (.parquet; .json for the manifest)."""
    return f"segment-{first_seq:020d}-{last_seq:020d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRange:
    """A sealed segment as its manifest's name states it; both ends are in it."""

    first_seq: int
    last_seq: int

    @property
    def stem(self) -> str:
        """Its file name without a suffix."""
        return segment_name(self.first_seq, self.last_seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The parts of a log, in order of seq.

    A segment exists once its manifest does. ``hots`` are the first seqs of the hot files that no
    segment covers; ``covered`` those left over by a crash between manifest and unlink.
    """

    directory: Path
    segments: tuple[SegmentRange, ...]
    hots: tuple[int, ...]
    covered: tuple[int, ...]

    @property
    def sealed_until(self) -> int:
        """The last seq that is sealed, 0 when none is."""
        return self.segments[-1].last_seq if self.segments else 0


def read_layout(directory: Path, *, files: Files) -> Layout:
    """List the log in ``directory``.

    Raises:
        LogCorrupt: segments are missing or overlap.
    """
    names = sorted(files.names(directory))
    segments = tuple(
        SegmentRange(first_seq=int(found[1]), last_seq=int(found[2]))
        for found in map(_MANIFEST.fullmatch, names)
        if found
    )
    _check_contiguous(directory, segments)
    sealed_until = segments[-1].last_seq if segments else 0
    firsts = [int(found[1]) for found in map(_HOT.fullmatch, names) if found]
    hots = tuple(first for first in firsts if first > sealed_until)
    if hots and hots[0] != sealed_until + 1:
        _refuse(directory / hot_name(hots[0]), sealed_until + 1)
    covered = tuple(first for first in firsts if first <= sealed_until)
    return Layout(directory=directory, segments=segments, hots=hots, covered=covered)


def _check_contiguous(directory: Path, segments: tuple[SegmentRange, ...]) -> None:
    expected = 1
    for segment in segments:
        if segment.first_seq != expected or segment.last_seq < segment.first_seq:
            _refuse(directory / f"{segment.stem}.json", expected)
        expected = segment.last_seq + 1


def _refuse(path: Path, expected: int) -> None:
    raise LogCorrupt(f"record {expected} should come next; it is missing", file=str(path), offset=0)
