"""Immutable sorted runs of identities on disk, 30 bytes each.

    run     = header, columns
    columns = low, high, content (u64), seq (u32, counted from the run's first), filter, fence

Everything is in order of ``low``, which is uniform, so a value's place follows from the value:
``filter`` holds a 64-bit Bloom word for every 4.5 keys, ``fence`` says where every 16th part of
them begins. A new identity costs one word of the filter; only about 1 in 100 goes further.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from ingest.kernels import identities as kernels
from storage.log.files import File, Files
from storage.log.identity.keys import SLICE_ROWS, U64, Entries, Found, Keys, Rows
from storage.log.identity.pacing import Rest, no_rest
from storage.log.layout import PARTIAL_SUFFIX

RUN_VERSION = 1
SEQ_SPAN_MAX = 1 << 32
SYNC_BYTES = 1 << 20
"""A long run is synced as it grows: an fsync of the log waits for what others have written."""

_MAGIC = b"TALLYIDS"
_HEADER = struct.Struct("<8sIIqqqqqII6I")
_HEADER_BYTES = 128
_KEYS_PER_WORD = 4.5
_KEYS_PER_FENCE = 16
_CHECKED_ROWS = 1 << 20
_PUT_ROWS = 1 << 16
_HALF = np.uint64(32)
_TWELVE = np.uint64(4095)
PAIRS = np.array([1 << (i & 63) | 1 << (i >> 6) for i in range(4096)], np.uint64)
"""Two bits of a Bloom word for every 12 bits of a key."""

_COLUMNS = ("low", "high", "content", "seq", "filter", "fence")
_TYPES = tuple(map(np.dtype, ("<u8", "<u8", "<u8", "<u4", "<u8", "<u4")))


class RunDamaged(Exception):
    """A run cannot be used. The index is derived: it is made again from the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRange:
    """Which records a run covers: by seq and by receipt, both ends inclusive."""

    first_seq: int
    last_seq: int
    first_received_at: int
    last_received_at: int

    @property
    def name(self) -> str:
        """The file name of the run."""
        return f"run-{self.first_seq:020d}-{self.last_seq:020d}.ids"


def place(low: U64, parts: int) -> Rows:
    """Which of ``parts`` equal parts of the value range each key lies in; monotonic."""
    return (((low >> _HALF) * np.uint64(parts)) >> _HALF).astype(np.intp)


def filter_bits(high: U64) -> U64:
    """The bits of a Bloom word that stand for each key: up to four, two from each 12 bits."""
    first = np.take(PAIRS, (high & _TWELVE).astype(np.intp))
    return first | np.take(PAIRS, (high >> np.uint64(12) & _TWELVE).astype(np.intp))


def _groups(places: Rows) -> Rows:
    """Where each group of equal, ascending places begins."""
    return np.flatnonzero(np.diff(places, prepend=-1))


class Run:
    """An open run. Read-only and immutable: any thread may use it."""

    def __init__(self, directory: Path, covers: RunRange, *, files: Files, check: bool) -> None:
        """Map the run. ``check`` reads all of it once and compares its checksums.

        Raises:
            RunDamaged: missing, of another format, or not what was written.
        """
        self.covers = covers
        try:
            view = files.view(directory / covers.name)
        except FileNotFoundError as error:
            raise RunDamaged(f"{covers.name} is missing") from error
        self.count, words, fences, checksums = _read_header(view, covers)
        sizes = (self.count, self.count, self.count, self.count, words, fences)
        columns, at = [], _HEADER_BYTES
        for size, kind in zip(sizes, _TYPES, strict=True):
            end = at + size * kind.itemsize
            if end > len(view):
                raise RunDamaged(f"{covers.name} is cut short")
            columns.append(np.frombuffer(view[at:end], kind))
            at = end + -end % 8
        if check:
            for name, column, checksum in zip(_COLUMNS, columns, checksums, strict=True):
                if _crc(column) != checksum:
                    raise RunDamaged(f"{covers.name}: column {name} is damaged")
        self._low, self._high, self._content, self._seq = columns[:4]
        self.filter: U64 = columns[4].copy()  # of every look-up: not left to the page cache
        self._fence = columns[5].astype(np.intp)

    def probe(self, keys: Keys, found: Found, rows: Rows) -> None:
        """Fill ``found`` for those of ``rows`` that are in the run."""
        run = (self._low, self._high, self._content, self._seq, self._fence)
        first_seq = self.covers.first_seq
        kernels.find_sorted(keys.low, keys.high, rows, found.seq, found.content, run, first_seq)

    def entries(self, start: int, stop: int) -> Entries:
        """The entries of rows ``[start, stop)``."""
        part = slice(start, stop)
        seq = self._seq[part].astype(np.int64) + self.covers.first_seq
        return Entries(Keys(self._low[part], self._high[part]), self._content[part], seq)

    def start(self, bound: np.uint64 | None) -> int:
        """The first row that is not below ``bound``; null: the number of rows."""
        return self.count if bound is None else int(np.searchsorted(self._low, bound))


def _crc(column: npt.NDArray[np.generic]) -> int:
    crc = 0
    for at in range(0, column.size, _CHECKED_ROWS):
        crc = google_crc32c.extend(crc, column[at : at + _CHECKED_ROWS].tobytes())
    return int(crc)


def _read_header(view: memoryview, covers: RunRange) -> tuple[int, int, int, tuple[int, ...]]:
    if len(view) < _HEADER_BYTES:
        raise RunDamaged(f"{covers.name} is cut short")
    head = bytes(view[: _HEADER_BYTES - 4])
    (checksum,) = struct.unpack("<I", view[_HEADER_BYTES - 4 : _HEADER_BYTES])
    magic, version, _, count, *ranges, words, fences, c0, c1, c2, c3, c4, c5 = _HEADER.unpack_from(
        head
    )
    stated = RunRange(
        first_seq=ranges[0],
        last_seq=ranges[1],
        first_received_at=ranges[2],
        last_received_at=ranges[3],
    )
    if magic != _MAGIC or version != RUN_VERSION or checksum != google_crc32c.value(head):
        raise RunDamaged(f"{covers.name} has no valid header")
    if stated != covers:
        raise RunDamaged(f"{covers.name} covers {stated}")
    return count, words, fences, (c0, c1, c2, c3, c4, c5)


def write_run(
    directory: Path,
    covers: RunRange,
    chunks: Iterable[Entries],
    *,
    count: int,
    files: Files,
    rest: Rest = no_rest,
) -> None:
    """Write a run of ``count`` entries that come sorted, chunk by chunk. Durable on return.

    ``rest`` is called behind every chunk, and as often while the filter is written.
    """
    path = directory / covers.name
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    if partial.name in files.names(directory):
        files.unlink(partial)
    file = files.create(partial)
    try:
        _Writer(file, covers, count).write(chunks, rest)
        file.fdatasync()
    finally:
        file.close()
    files.rename(partial, path)
    files.fsync_dir(directory)


class _Writer:
    """Puts columns at their places while chunks come in."""

    def __init__(self, file: File, covers: RunRange, count: int) -> None:
        self._file = file
        self._covers = covers
        self._count = count
        words = max(1, int(count / _KEYS_PER_WORD))
        fences = max(1, count // _KEYS_PER_FENCE)
        self._sizes = (count, count, count, count, words, fences + 1)
        self._filter = np.zeros(words, np.uint64)
        self._fence = np.zeros(fences + 1, np.uint32)
        self._checksums = [0] * len(_COLUMNS)
        self._unsynced = 0
        self._offsets = []
        at = _HEADER_BYTES
        for size, kind in zip(self._sizes, _TYPES, strict=True):
            self._offsets.append(at)
            at += size * kind.itemsize
            at += -at % 8

    def write(self, chunks: Iterable[Entries], rest: Rest) -> None:
        """Write all columns, then the header that vouches for them."""
        for chunk in chunks:
            seq = (chunk.seq - self._covers.first_seq).astype(np.uint32)
            self._put(0, chunk.keys.low)
            self._put(1, chunk.keys.high)
            self._put(2, chunk.content)
            self._put(3, seq)
            self._note(chunk.keys)
            rest()
        for number, column in ((4, self._filter), (5, np.cumsum(self._fence, dtype=np.uint32))):
            for at in range(0, len(column), _PUT_ROWS):
                self._put(number, column[at : at + _PUT_ROWS])
                rest()
        covers, sizes = self._covers, self._sizes
        head = _HEADER.pack(
            _MAGIC,
            RUN_VERSION,
            0,
            self._count,
            covers.first_seq,
            covers.last_seq,
            covers.first_received_at,
            covers.last_received_at,
            sizes[4],
            sizes[5],
            *self._checksums,
        ).ljust(_HEADER_BYTES - 4, b"\0")
        self._file.write_at([head, struct.pack("<I", google_crc32c.value(head))], 0)

    def _note(self, keys: Keys) -> None:
        """Add sorted keys to the filter and the fence."""
        if not len(keys.low):
            return
        word = place(keys.low, len(self._filter))
        starts = _groups(word)
        self._filter[word[starts]] |= np.bitwise_or.reduceat(filter_bits(keys.high), starts)
        part = place(keys.low, len(self._fence) - 1)
        starts = _groups(part)
        self._fence[part[starts] + 1] += np.diff(starts, append=len(part)).astype(np.uint32)

    def _put(self, number: int, column: npt.NDArray[np.generic]) -> None:
        data = column.tobytes()
        self._file.write_at([data], self._offsets[number])
        self._offsets[number] += len(data)
        self._checksums[number] = google_crc32c.extend(self._checksums[number], data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._file.fdatasync()
            self._unsynced = 0


def merged(runs: tuple[Run, ...], *, rows: int = SLICE_ROWS) -> Iterator[Entries]:
    """The entries of all runs in one order, about ``rows`` at a time."""
    parts = -(-sum(run.count for run in runs) // rows)
    starts = [0] * len(runs)
    for part in range(1, parts + 1):
        bound = np.uint64((part << 64) // parts) if part < parts else None
        stops = [run.start(bound) for run in runs]
        pieces = [run.entries(*cut) for run, *cut in zip(runs, starts, stops, strict=True)]
        starts = stops
        low = np.concatenate([piece.keys.low for piece in pieces])
        order = np.argsort(low, kind="stable")  # timsort: it only merges what is sorted already
        high = np.concatenate([piece.keys.high for piece in pieces])[order]
        content = np.concatenate([piece.content for piece in pieces])[order]
        seq = np.concatenate([piece.seq for piece in pieces])[order]
        yield Entries(Keys(low[order], high), content, seq)
