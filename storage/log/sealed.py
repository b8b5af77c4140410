"""Sealed segments: one zstd Parquet file in log order, and a manifest that vouches for it.

A hot file becomes a segment in steps, each durable before the next: Parquet under a partial name,
its final name, read back and compared, the manifest likewise, and only then the hot file goes.
Whatever step a crash comes at, the segment exists if and only if its manifest does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path

import polars as pl

from catalog.clock import Micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId, Seq
from storage.log.files import Files
from storage.log.frames import FORMAT_VERSION, LogCorrupt, LogTooNew
from storage.log.hot import HotFile
from storage.log.layout import SegmentRange, segment_name
from storage.log.replace import replace_file

ROW_GROUP_ROWS = 1 << 16
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


def describe(records: pl.DataFrame, *, node: NodeId, content: bytes, path: Path) -> Manifest:
    """The manifest of ``records`` (RECORDS, at least one), stored as ``content``."""
    events = records.filter(pl.col("kind") == RecordKind.EVENT).select(
        first=pl.col("time").min().dt.epoch("us"), last=pl.col("time").max().dt.epoch("us")
    )
    first_time, last_time = events.row(0)
    ends = records.select(pl.col("seq"), pl.col("received_at").dt.epoch("us"))
    first, last = ends.row(0), ends.row(-1)
    return Manifest(
        node=node,
        first_seq=Seq(first[0]),
        last_seq=Seq(last[0]),
        first_received_at=Micros(first[1]),
        last_received_at=Micros(last[1]),
        first_time=first_time,
        last_time=last_time,
        counts=count_kinds(records),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        path=path,
    )


def count_kinds(records: pl.DataFrame) -> tuple[tuple[str, int], ...]:
    """(kind's name, records) of ``records``, by name."""
    rows = records.get_column("kind").value_counts().iter_rows()
    return tuple(sorted((RecordKind(kind).name.lower(), count) for kind, count in rows))


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
    """Turn a closed hot file into a segment. Repeating it after a crash is safe.

    Raises:
        LogCorrupt: the hot file is damaged, or what was written does not read back the same.
    """
    hot.extend(hot.size())
    records = hot.read(hot.first_seq, rows_max=hot.next_seq - hot.first_seq, bytes_max=None)
    buffer = BytesIO()
    records.write_parquet(buffer, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    content = buffer.getvalue()
    path = directory / f"{segment_name(hot.first_seq, hot.next_seq - 1)}.parquet"
    manifest = describe(records, node=node, content=content, path=path)
    replace_file(path, content, files=files)
    check_digest(manifest, files=files)
    _compare(records, manifest, files=files)
    replace_file(path.with_suffix(".json"), encode_manifest(manifest), files=files)
    segment = SegmentRange(first_seq=manifest.first_seq, last_seq=manifest.last_seq)
    if read_manifest(directory, segment, node=node, files=files) != manifest:
        raise LogCorrupt("it reads back otherwise", file=str(path.with_suffix(".json")), offset=0)
    files.unlink(hot.path)
    files.fsync_dir(directory)
    return manifest


def _compare(records: pl.DataFrame, manifest: Manifest, *, files: Files) -> None:
    for start in range(0, records.height, ROW_GROUP_ROWS):
        written = records.slice(start, ROW_GROUP_ROWS)
        stored = read_segment(manifest, files=files, start=start, rows_max=ROW_GROUP_ROWS)
        if not written.equals(stored):
            reason = f"rows from {manifest.first_seq + start} on read back otherwise"
            raise LogCorrupt(reason, file=str(manifest.path), offset=0)
