"""The bytes of a hot file: a header, then checksummed frames of records.

    file   = header, frame, frame, …
    header = magic, format version, length, first seq, node, Arrow schema message, crc32c
    frame  = u32 length, u32 crc32c (of the length and the payload), payload
    payload= "FRAM", records, first seq, first received_at, synced, kinds, Arrow record batches

A frame says how much of its file was durable when it was written (``synced``). That is what tells
a torn tail, whose frames were all waiting for one sync, from damage to what was acknowledged.
Everything is little-endian and padded to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.errors import DomainError
from catalog.events import RECORDS, RecordKind
from ingest.batch import APPENDED_ARROW

FORMAT_VERSION = 1
FILE_MAGIC = b"TALLYLOG"
FRAME_MAGIC = b"FRAM"
PAYLOAD_BYTES_MAX = 1 << 30
HEADER_BYTES_MAX = 1 << 16
BATCH_ROWS_MAX = 1 << 13  # above a MB or so the allocator maps and faults every buffer anew
COPIED_BYTES_MAX = 1 << 14

_FILE = struct.Struct("<8sIIqHxxI")  # magic, version, length, first_seq, node and schema lengths
_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<II4sIqqqII")  # length, crc, then the payload's own header
_PREFIX_BYTES = 8
_FRAME_BYTES = _FRAME.size
_END_OF_STREAM = struct.pack("<Ii", 0xFFFFFFFF, 0)


class LogCorrupt(DomainError):
    """What was once durable cannot be read back. Nothing was cut and nothing guessed."""

    code = "log_corrupt"

    def __init__(self, reason: str, *, file: str, offset: int) -> None:
        super().__init__(f"{file} at byte {offset}: {reason}")
        self.reason = reason
        self.file = file
        self.offset = offset


class LogTooNew(DomainError):
    """The log was written by a newer release, whose format this one does not know."""

    code = "log_too_new"


class Damage(Exception):
    """These bytes are not a header or a frame. The reader decides what that means."""


class Header(NamedTuple):
    """The header of a hot file. ``size`` is where its first frame begins."""

    node: str
    first_seq: int
    schema: bytes
    size: int


class Frame(NamedTuple):
    """The header of one frame, checked. It lies in ``[offset, end)`` of its file.

    ``kinds`` has bit k set when a record of kind k is in it; ``synced`` is the offset up to which
    the file was durable when the frame was written.
    """

    offset: int
    end: int
    first_seq: int
    received_at: int
    records: int
    kinds: int
    synced: int


class Encoded(NamedTuple):
    """A frame to be written: its parts in order, their total length, the kinds in it."""

    parts: tuple[bytes | pa.Buffer, ...]
    size: int
    kinds: int


_RECEIVED = pl.col("received_at").cast(RECORDS["received_at"])
_UNTIMED = (pl.col("kind") == RecordKind.EVENT) & pl.col("time").is_null()
_COMPLETED = [
    {
        "received_at": _RECEIVED,
        "time": pl.when(_UNTIMED).then(_RECEIVED).otherwise("time").alias("time"),
    }.get(name, pl.col(name))
    for name in RECORDS
]

SCHEMA_MESSAGE: bytes = APPENDED_ARROW.serialize().to_pybytes()
"""What precedes the record batches in the IPC stream of this release of Arrow."""


def encode_header(node: str, first_seq: int) -> bytes:
    """The header of a new hot file."""
    name = node.encode()
    size = _FILE.size + len(name) + len(SCHEMA_MESSAGE) + _CRC.size
    size += -size % 8
    fields = _FILE.pack(FILE_MAGIC, FORMAT_VERSION, size, first_seq, len(name), len(SCHEMA_MESSAGE))
    body = (fields + name + SCHEMA_MESSAGE).ljust(size - _CRC.size, b"\0")
    return body + _CRC.pack(google_crc32c.value(body))


def decode_header(data: bytes, *, file: str) -> Header:
    """Read the header at the start of ``data``.

    Raises:
        LogTooNew: of a format that this release does not know.
        Damage: not a whole, intact header.
    """
    if len(data) < _FILE.size:
        raise Damage("the header is cut short")
    magic, version, size, first_seq, node_bytes, schema_bytes = _FILE.unpack_from(data)
    if magic != FILE_MAGIC:
        raise Damage("the file does not begin with the magic of a log")
    if version > FORMAT_VERSION:
        raise LogTooNew(f"{file} has format {version}; this release reads up to {FORMAT_VERSION}")
    if not _FILE.size < size <= min(len(data), HEADER_BYTES_MAX):
        raise Damage("the header is cut short")
    body = data[: size - _CRC.size]
    if google_crc32c.value(body) != _CRC.unpack_from(data, len(body))[0]:
        raise Damage("the header's checksum does not match")
    schema_at = _FILE.size + node_bytes
    schema = data[schema_at : schema_at + schema_bytes]
    return Header(data[_FILE.size : schema_at].decode(), first_seq, schema, size)


def kinds_of(records: pa.RecordBatch) -> int:
    """A bit set of the kinds in ``records``."""
    kinds = records.column("kind").to_numpy()
    return int(np.bitwise_or.reduce(np.left_shift(1, kinds, dtype=np.uint32)))


def encode_frame(
    records: pa.RecordBatch, *, first_seq: int, received_at: int, synced: int
) -> Encoded:
    """One frame of ``records`` (APPENDED_ARROW, at least one row).

    Raises:
        TypeError: other columns than those.
        ValueError: more bytes than a frame may hold.
    """
    if not records.schema.equals(APPENDED_ARROW):
        raise TypeError(f"records must be {APPENDED_ARROW}, not {records.schema}")
    rows = records.num_rows
    batches = [
        records.slice(at, BATCH_ROWS_MAX).serialize() for at in range(0, rows, BATCH_ROWS_MAX)
    ]
    length = _FRAME_BYTES - _PREFIX_BYTES + sum(batch.size for batch in batches)
    if length > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes; split the group")
    kinds = kinds_of(records)
    fields = (FRAME_MAGIC, rows, first_seq, received_at, synced, kinds, 0)
    checksum = _checksum(_FRAME.pack(length, 0, *fields), batches)
    header = _FRAME.pack(length, checksum, *fields)
    return Encoded((header, *batches), _PREFIX_BYTES + length, kinds)


def _checksum(header: bytes, batches: Sequence[bytes | pa.Buffer]) -> int:
    crc = google_crc32c.extend(google_crc32c.value(header[:4]), header[_PREFIX_BYTES:])
    for batch in batches:
        crc = google_crc32c.extend(crc, batch)
    return int(crc)


def decode_frame(data: bytes, position: int, *, offset: int) -> Frame:
    """Check the frame at ``position`` of ``data``, which lies at ``offset`` of its file.

    Raises:
        Damage: not a whole, intact frame.
    """
    if len(data) - position < _FRAME_BYTES:
        raise Damage("a frame is cut short")
    fields = _FRAME.unpack_from(data, position)
    length, checksum, magic, records, first_seq, received_at, synced, kinds, _ = fields
    stop = position + _PREFIX_BYTES + length
    if magic != FRAME_MAGIC or not records or length > PAYLOAD_BYTES_MAX:
        raise Damage("no frame begins here")
    if stop > len(data) or stop < position + _FRAME_BYTES:
        raise Damage("a frame is cut short")
    body_at = position + _FRAME_BYTES
    if _checksum(data[position:body_at], [_part(data, body_at, stop)]) != checksum:
        raise Damage("a frame's checksum does not match")
    end = offset + _PREFIX_BYTES + length
    return Frame(offset, end, first_seq, received_at, records, kinds, synced)


def _part(data: bytes, start: int, stop: int) -> bytes | pa.Buffer:
    """A part of ``data``; a large one is not copied."""
    if stop - start < COPIED_BYTES_MAX:
        return data[start:stop]
    return pa.py_buffer(data).slice(start, stop - start)


def later_frames(data: bytes, position: int) -> Iterator[Frame]:
    """Every intact frame that begins after ``position``, wherever it begins."""
    found = data.find(FRAME_MAGIC, position + 1 + _PREFIX_BYTES)
    while found >= 0:
        start = found - _PREFIX_BYTES
        with suppress(Damage):
            yield decode_frame(data, start, offset=start)
        found = data.find(FRAME_MAGIC, found + 1)


def decode_records(
    data: bytes, frames: Sequence[Frame], *, base: int, schema: bytes
) -> pl.DataFrame:
    """The RECORDS of ``frames``, whose bytes are in ``data`` beginning at offset ``base``.

    An event without ``time`` gets its ``received_at``. ``frames`` are at least one, in order.
    """
    view = memoryview(data)  # each copy of so much is memory that the kernel has to clear
    parts = [view[f.offset - base + _FRAME_BYTES : f.end - base] for f in frames]
    stored = pl.read_ipc_stream(b"".join([schema, *parts, _END_OF_STREAM]))
    counts = np.array([f.records for f in frames], dtype=np.int64)
    if stored.height != counts.sum():
        raise Damage(f"{stored.height} rows where {counts.sum()} were announced")
    return _numbered(stored, frames, counts)


class Stored(NamedTuple):
    """Records as the log stores them (APPENDED_ARROW), with each one's seq and receipt."""

    records: pa.RecordBatch
    seqs: npt.NDArray[np.int64]
    received_at: npt.NDArray[np.int64]

    def behind(self, seq: int) -> Stored:
        """Without the records up to ``seq``."""
        at = max(0, seq + 1 - int(self.seqs[0]))
        return Stored(self.records.slice(at), self.seqs[at:], self.received_at[at:])


def stored_records(data: bytes, frame: Frame, *, base: int, schema: pa.Schema) -> Iterator[Stored]:
    """What :func:`decode_records` reads, as it lies there: nothing is copied or completed.

    Raises:
        Damage: these are not the records that were announced.
    """
    source = pa.BufferReader(
        pa.py_buffer(data).slice(
            frame.offset - base + _FRAME_BYTES, frame.end - frame.offset - _FRAME_BYTES
        )
    )
    rows = 0
    while rows < frame.records:
        try:
            records = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
        except (EOFError, pa.ArrowInvalid) as error:
            raise Damage(f"{rows} rows where {frame.records} were announced") from error
        places = np.arange(rows, rows + records.num_rows)
        rows += records.num_rows
        yield Stored(records, frame.first_seq + places, frame.received_at + places)


def _numbered(
    stored: pl.DataFrame, frames: Sequence[Frame], counts: npt.NDArray[np.int64]
) -> pl.DataFrame:
    rows = np.arange(stored.height)
    within = rows - np.repeat(np.cumsum(counts) - counts, counts)
    seqs = np.repeat(np.array([f.first_seq for f in frames]), counts) + within
    received = np.repeat(np.array([f.received_at for f in frames]), counts) + within
    return (
        stored.rechunk()
        .insert_column(0, pl.Series("seq", seqs))
        .insert_column(1, pl.Series("received_at", received))
        .select_seq(_COMPLETED)
    )
