"""Sealed segments: one zstd Parquet file in log order, and a manifest that vouches for it.

A hot file becomes a segment in steps, each durable before the next: Parquet under a partial name,
its final name, read back and compared, the manifest likewise, and only then the hot file goes.
Whatever step a crash comes at, the segment exists if and only if its manifest does.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from catalog.clock import Micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from storage.log.files import Files
from storage.log.frames import FORMAT_VERSION, LogCorrupt, LogTooNew
from storage.log.hot import HotFile
from storage.log.layout import SegmentRange, segment_name
from storage.log.replace import replace_file

ROW_GROUP_ROWS = 1 << 16
ZSTD = 3
_REPEATED = ["source", "type", "subject"]  # ids and data are each another
_READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a sealed segment holds. Seq and time bounds are both inclusive.

    ``counts`` are (kind's name, records), by name. ``first_time`` and ``last_time`` bound the
    events' own times, null without events. ``sha256`` and ``bytes`` are the Parquet file's.
    """

    node: NodeId
    first_seq: Seq
    last_seq: Seq
    first_received_at: Micros
    last_received_at: Micros
    first_time: Micros | None
    last_time: Micros | None
    counts: tuple[tuple[str, int], ...]
    sha256: str
    bytes: int
    path: Path


class Contents:
    """What a segment holds, told of its RECORDS piece by piece, in order and at least one."""

    def __init__(self) -> None:
        self._ends: list[tuple[int, int]] = []
        self._times: list[int] = []
        self._counts = Counter[str]()

    def add(self, records: pl.DataFrame) -> None:
        """Take what comes next."""
        received = pl.col("received_at").dt.epoch("us")
        ends = records.select("seq", received)
        self._ends += [ends.row(0), ends.row(-1)]
        times = records.filter(pl.col("kind") == RecordKind.EVENT)["time"].dt.epoch("us")
        if times.len():
            self._times += [int(times.min()), int(times.max())]  # type: ignore[arg-type]
        for kind, count in records["kind"].value_counts().iter_rows():
            self._counts[RecordKind(kind).name.lower()] += count

    def manifest(self, *, node: NodeId, content: bytes, path: Path) -> Manifest:
        """The manifest of what was added, stored as ``content``."""
        (first, first_at), (last, last_at) = self._ends[0], self._ends[-1]
        return Manifest(
            node=node,
            first_seq=Seq(first),
            last_seq=Seq(last),
            first_received_at=Micros(first_at),
            last_received_at=Micros(last_at),
            first_time=Micros(min(self._times)) if self._times else None,
            last_time=Micros(max(self._times)) if self._times else None,
            counts=tuple(sorted(self._counts.items())),
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            path=path,
        )


def _checksum(document: dict[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON; the path is not in it, the checksum covers the rest."""
    document = {"format": FORMAT_VERSION, **asdict(manifest), "counts": dict(manifest.counts)}
    del document["path"]
    return json.dumps({**document, "checksum": _checksum(document)}, indent=1).encode() + b"\n"


def read_manifest(
    directory: Path, segment: SegmentRange, *, node: NodeId, files: Files
) -> Manifest:
    """Read and check the manifest of ``segment``.

    Raises:
        LogCorrupt: it is damaged, or of another node or range.
        LogTooNew: written by a newer release.
    """
    path = directory / f"{segment.stem}.json"
    content = read_whole(path, files=files)
    try:
        document = json.loads(content)
        checksum, version = document.pop("checksum"), document.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LogCorrupt("not a manifest", file=str(path), offset=0) from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise LogTooNew(f"{path} has format {version}; this release reads {FORMAT_VERSION}")
    counts = document.get("counts")
    intact = checksum == _checksum({"format": version, **document}) and isinstance(counts, dict)
    if not intact or document.keys() != {f.name for f in fields(Manifest)} - {"path"}:
        raise LogCorrupt("the manifest's checksum does not match", file=str(path), offset=0)
    document["counts"] = tuple(counts.items())
    manifest = Manifest(**document, path=path.with_suffix(".parquet"))
    stated = (manifest.node, manifest.first_seq, manifest.last_seq)
    if stated != (node, segment.first_seq, segment.last_seq):
        raise LogCorrupt(f"it is the manifest of {stated}", file=str(path), offset=0)
    return manifest


def read_whole(path: Path, *, files: Files) -> bytes:
    """The content of ``path``."""
    file = files.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def check_digest(manifest: Manifest, *, files: Files) -> None:
    """Compare the segment's bytes with its manifest.

    Raises:
        LogCorrupt: they differ, or the file is missing.
    """
    digest, at = hashlib.sha256(), 0
    try:
        file = files.open(manifest.path)
    except FileNotFoundError as error:
        raise LogCorrupt("the segment is missing", file=str(manifest.path), offset=0) from error
    try:
        while data := file.pread(_READ_BYTES, at):
            digest.update(data)
            at += len(data)
    finally:
        file.close()
    if at != manifest.bytes:
        reason = f"{at} bytes where the manifest has {manifest.bytes}"
        raise LogCorrupt(reason, file=str(manifest.path), offset=min(at, manifest.bytes))
    if digest.hexdigest() != manifest.sha256:
        raise LogCorrupt("its SHA-256 is not the manifest's", file=str(manifest.path), offset=0)


def read_segment(
    manifest: Manifest, *, files: Files, start: int = 0, rows_max: int | None = None
) -> pl.DataFrame:
    """RECORDS of the segment from row ``start`` on. Check its digest first."""
    source = files.columnar(manifest.path)
    try:
        frame = pl.scan_parquet(source, glob=False).slice(start, rows_max).collect()
    except (pl.exceptions.PolarsError, FileNotFoundError) as error:
        raise LogCorrupt(str(error), file=str(manifest.path), offset=0) from error
    return frame.match_to_schema(RECORDS)


def seal(directory: Path, hot: HotFile, *, node: NodeId, files: Files) -> Manifest:
    """Turn a closed hot file into a segment, in the caller's thread and a row group at a time.

    Repeating it after a crash is safe.

    Raises:
        LogCorrupt: the hot file is damaged, or what was written does not read back the same.
    """
    hot.extend(hot.size())
    content, contents = _encode(hot)
    path = directory / f"{segment_name(hot.first_seq, hot.next_seq - 1)}.parquet"
    manifest = contents.manifest(node=node, content=content, path=path)
    replace_file(path, content, files=files)
    check_digest(manifest, files=files)
    _compare(hot, manifest, files=files)
    replace_file(path.with_suffix(".json"), encode_manifest(manifest), files=files)
    segment = SegmentRange(first_seq=manifest.first_seq, last_seq=manifest.last_seq)
    if read_manifest(directory, segment, node=node, files=files) != manifest:
        raise LogCorrupt("it reads back otherwise", file=str(path.with_suffix(".json")), offset=0)
    files.unlink(hot.path)
    files.fsync_dir(directory)
    return manifest


def _row_groups(hot: HotFile) -> Iterator[pl.DataFrame]:
    """RECORDS of a whole hot file, as many at a time as a row group has."""
    for first in range(hot.first_seq, hot.next_seq, ROW_GROUP_ROWS):
        yield hot.read(first, rows_max=ROW_GROUP_ROWS, bytes_max=None)


def _arrow(records: pl.DataFrame) -> pa.Table:
    return records.to_arrow(compat_level=pl.CompatLevel.oldest())


def _encode(hot: HotFile) -> tuple[bytes, Contents]:
    """The Parquet file of a hot file.

    Written by Arrow, which takes row groups as they come and works in this thread: Polars takes
    the whole file at once, and its pool from those who answer.
    """
    contents, buffer = Contents(), BytesIO()
    schema = _arrow(RECORDS.to_frame()).schema
    with ParquetWriter(
        buffer, schema, compression="zstd", compression_level=ZSTD, use_dictionary=_REPEATED
    ) as writer:
        for records in _row_groups(hot):
            contents.add(records)
            writer.write_table(_arrow(records), row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue(), contents


def _compare(hot: HotFile, manifest: Manifest, *, files: Files) -> None:
    """Read a segment back, and its hot file once more.

    Raises:
        LogCorrupt: they differ.
    """
    try:
        with ParquetFile(files.columnar(manifest.path)) as stored:
            for group, records in enumerate(_row_groups(hot)):
                if not stored.read_row_group(group, use_threads=False).equals(_arrow(records)):
                    reason = f"rows from {records['seq'][0]} on read back otherwise"
                    raise LogCorrupt(reason, file=str(manifest.path), offset=0)
    except pa.ArrowException as error:
        raise LogCorrupt(str(error), file=str(manifest.path), offset=0) from error
