"""Comparing sealed segments with their manifests, byte by byte and record by record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from catalog.ids import NodeId, Seq
from storage.log.files import Files, OsFiles
from storage.log.frames import LogCorrupt
from storage.log.layout import SegmentRange, read_layout
from storage.log.sealed import (
    Contents,
    Manifest,
    check_digest,
    read_manifest,
    read_segment,
    read_whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a log and its manifests first disagree. ``seq`` begins the segment concerned."""

    file: str
    seq: Seq
    detail: str


def verify_segments(
    directory: Path, *, node: NodeId, files: Files | None = None
) -> Difference | None:
    """Read every sealed segment in full and return the first difference, None if all is well."""
    files = files or OsFiles()
    seq, received_at = 0, 0
    try:
        for segment in read_layout(directory, files=files).segments:
            seq = segment.first_seq
            received_at = _verify(directory, segment, node, received_at, files)
    except LogCorrupt as corrupt:
        return Difference(file=corrupt.file, seq=Seq(seq), detail=corrupt.reason)
    return None


def _verify(
    directory: Path, segment: SegmentRange, node: NodeId, received_after: int, files: Files
) -> int:
    manifest = read_manifest(directory, segment, node=node, files=files)
    check_digest(manifest, files=files)
    records = read_segment(manifest, files=files)
    content = read_whole(manifest.path, files=files)
    if not records.height:
        _refuse(manifest, "it holds no records")
    contents = Contents()
    contents.add(records)
    if contents.manifest(node=node, content=content, path=manifest.path) != manifest:
        _refuse(manifest, "its counts or ranges are not the manifest's")
    if records["seq"].to_list() != list(range(segment.first_seq, segment.last_seq + 1)):
        _refuse(manifest, "its seqs are not contiguous")
    received = records["received_at"].dt.epoch("us")
    steps = pl.concat([pl.Series([received_after], dtype=pl.Int64), received]).diff().drop_nulls()
    if not (steps > 0).all():
        _refuse(manifest, "received_at does not increase")
    return manifest.last_received_at


def _refuse(manifest: Manifest, reason: str) -> None:
    raise LogCorrupt(reason, file=str(manifest.path), offset=0)
