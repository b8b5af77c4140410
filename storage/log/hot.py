"""One hot file: frames appended at its end, found again by seq."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from pathlib import Path

import polars as pl
import pyarrow as pa

from ingest.batch import APPENDED_ARROW
from storage.log.files import File, Files
from storage.log.frames import (
    HEADER_BYTES_MAX,
    SCHEMA_MESSAGE,
    Damage,
    Frame,
    Header,
    LogCorrupt,
    Stored,
    decode_frame,
    decode_header,
    decode_records,
    encode_frame,
    encode_header,
    stored_records,
)
from storage.log.layout import hot_name

SCAN_BYTES = 4 << 20
READ_BYTES_MAX = 32 << 20


class HotFile:
    """An open hot file and the index of the frames known so far.

    The writer's index grows by :meth:`append`; a reader's by :meth:`extend`, which checks every
    frame it passes. ``end`` is the offset behind the last known frame.
    """

    def __init__(self, file: File, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self.end = header.size
        self.next_seq = header.first_seq
        self.first_received_at = 0
        self.last_received_at = 0
        self.kinds = 0
        self._file = file
        self._firsts = array("q")
        self._offsets = array("q")

    @classmethod
    def create(cls, directory: Path, *, first_seq: int, node: str, files: Files) -> HotFile:
        """Make an empty hot file that survives a power cut, name and all."""
        path = directory / hot_name(first_seq)
        data = encode_header(node, first_seq)
        file = files.create(path)
        try:
            file.write_at([data], 0)
            file.fdatasync()
            files.fsync_dir(directory)
        except OSError:
            file.close()
            raise
        return cls(file, path, decode_header(data, file=str(path)))

    @classmethod
    def open(cls, directory: Path, *, first_seq: int, node: str, files: Files) -> HotFile:
        """Open an existing one for reading; nothing but its header is read yet."""
        path = directory / hot_name(first_seq)
        file = files.open(path)
        try:
            header = decode_header(file.pread(HEADER_BYTES_MAX, 0), file=str(path))
            check_owner(header, node=node, first_seq=first_seq)
        except Damage as damage:
            file.close()
            raise LogCorrupt(str(damage), file=str(path), offset=0) from damage
        return cls(file, path, header)

    @property
    def first_seq(self) -> int:
        """The seq of its first record."""
        return self.header.first_seq

    def size(self) -> int:
        """The length of the file, known frames or not."""
        return self._file.size()

    def append(self, records: pa.RecordBatch, *, received_at: int, synced: int) -> None:
        """Write one frame behind the last. ``end`` moves only if all of it was written."""
        first_seq = self.next_seq
        frame = encode_frame(records, first_seq=first_seq, received_at=received_at, synced=synced)
        self._file.write_at(frame.parts, self.end)
        end = self.end + frame.size
        self._add(
            Frame(self.end, end, first_seq, received_at, records.num_rows, frame.kinds, synced)
        )

    def sync(self) -> None:
        """Make what was appended durable."""
        self._file.fdatasync()

    def cut(self) -> None:
        """Drop whatever lies behind the last known frame."""
        self._file.truncate(self.end)

    def rewrite(self, since: int) -> None:
        """Write ``[since, end)`` once more as it is.

        After a failed sync the kernel calls unwritten pages clean, and the next sync would lie.
        Writing them again makes them dirty, so that it cannot.
        """
        at = since
        while at < self.end:
            data = self._file.pread(min(SCAN_BYTES, self.end - at), at)
            self._file.write_at([data], at)
            at += len(data)

    def extend(self, limit: int) -> None:
        """Learn the frames up to the offset ``limit``, which must be a frame's end.

        Raises:
            LogCorrupt: one of them is damaged.
        """
        try:
            self.walk(limit)
        except Damage as damage:
            raise LogCorrupt(str(damage), file=str(self.path), offset=self.end) from damage

    def walk(self, limit: int) -> None:
        """Like :meth:`extend`, but raises :class:`Damage` with ``end`` where it begins."""
        read_bytes = SCAN_BYTES
        while self.end < limit:
            base = self.end
            wanted = min(read_bytes, limit - base)
            data = self._file.pread(wanted, base)
            try:
                self._walk_chunk(data, base)
            except Damage:
                if self.end == base and (len(data) < wanted or base + wanted == limit):
                    raise
            if not data:
                raise Damage("the file is shorter than what is durable")
            # No progress: a frame longer than the chunk, so take a longer one.
            read_bytes = SCAN_BYTES if self.end > base else read_bytes * 8

    def _walk_chunk(self, data: bytes, base: int) -> None:
        while self.end - base < len(data):
            frame = decode_frame(data, self.end - base, offset=self.end)
            if frame.first_seq != self.next_seq or frame.received_at <= self.last_received_at:
                raise Damage(f"record {self.next_seq} should come next, not {frame.first_seq}")
            self._add(frame)

    def _add(self, frame: Frame) -> None:
        self._firsts.append(frame.first_seq)
        self._offsets.append(frame.offset)
        self.first_received_at = self.first_received_at or frame.received_at
        self.last_received_at = frame.received_at + frame.records - 1
        self.kinds |= frame.kinds
        self.next_seq = frame.first_seq + frame.records
        self.end = frame.end

    def read(
        self, seq: int, *, rows_max: int, bytes_max: int | None = READ_BYTES_MAX
    ) -> pl.DataFrame:
        """RECORDS from ``seq`` on: at least one, at most ``rows_max``, of about ``bytes_max``."""
        start, stop = self._frames(seq, rows_max=rows_max, bytes_max=bytes_max)
        records = self._decode(start, stop)
        return records.slice(seq - self._firsts[start], rows_max)

    def stored(self, seq: int, *, rows_max: int) -> list[Stored] | None:
        """The same as it is stored, in whole frames; null where another release wrote it."""
        if self.header.schema != SCHEMA_MESSAGE:
            return None
        start, stop = self._frames(seq, rows_max=rows_max, bytes_max=READ_BYTES_MAX)
        data, base = self._bytes(start, stop)
        try:
            stored = [
                one
                for at in self._offsets[start:stop]
                for one in stored_records(
                    data, decode_frame(data, at - base, offset=at), base=base, schema=APPENDED_ARROW
                )
            ]
        except Damage as damage:
            raise LogCorrupt(str(damage), file=str(self.path), offset=base) from damage
        return [one.behind(seq - 1) for one in stored if one.seqs[-1] >= seq]

    def _frames(self, seq: int, *, rows_max: int, bytes_max: int | None) -> tuple[int, int]:
        """Which frames to read from ``seq`` on: at least one, of about ``bytes_max``."""
        start = bisect_right(self._firsts, seq) - 1
        stop = start + 1
        while stop < len(self._firsts) and self._firsts[stop] - seq < rows_max:
            if bytes_max and self._offsets[stop] - self._offsets[start] > bytes_max:
                break
            stop += 1
        return start, stop

    def _bytes(self, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes of some frames, and the offset where they begin."""
        base = self._offsets[start]
        end = self._offsets[stop] if stop < len(self._offsets) else self.end
        return self._file.pread(end - base, base), base

    def read_frame(self, seq: int) -> pl.DataFrame:
        """RECORDS of the whole frame that holds ``seq``."""
        at = bisect_right(self._firsts, seq) - 1
        return self._decode(at, at + 1)

    def _decode(self, start: int, stop: int) -> pl.DataFrame:
        data, base = self._bytes(start, stop)
        try:
            frames = [decode_frame(data, at - base, offset=at) for at in self._offsets[start:stop]]
            return decode_records(data, frames, base=base, schema=self.header.schema)
        except (Damage, pl.exceptions.PolarsError) as damage:
            raise LogCorrupt(str(damage), file=str(self.path), offset=base) from damage

    def close(self) -> None:
        """Close the descriptor."""
        self._file.close()


def check_owner(header: Header, *, node: str, first_seq: int) -> None:
    """Raise :class:`Damage` unless the header is of this node's file."""
    if (header.node, header.first_seq) != (node, first_seq):
        raise Damage(f"it is of {header.node} and begins with record {header.first_seq}")
