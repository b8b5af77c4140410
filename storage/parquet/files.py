"""Facts files: their names, which are the position, and how one comes to be all at once."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from catalog.ids import NodeId, Seq

NAME = re.compile(r"(?P<node>.+)-(?P<first>\d{20})-(?P<last>\d{20})\.parquet")
ROW_GROUP_ROWS = 131_072


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FactsFile:
    """One file: what ``[first, last]`` of one node's log says for one spec, maybe nothing."""

    node: NodeId
    first: Seq
    last: Seq
    path: Path


def file_name(*, node: NodeId, first: int, last: int) -> str:
    """The name of the file that covers ``[first, last]`` of ``node``."""
    return f"{node}-{first:020d}-{last:020d}.parquet"


def list_files(directory: Path) -> dict[NodeId, tuple[FactsFile, ...]]:
    """The files of one spec by node, in log order, contiguous from seq 1.

    A file beyond a gap does not count (it is written again when the gap is filled), nor does
    anything without the name of a facts file: a ``.tmp`` is what a crash left behind.
    """
    found: dict[NodeId, list[FactsFile]] = defaultdict(list)
    for path in directory.glob("*.parquet"):
        if match := NAME.fullmatch(path.name):
            node = NodeId(match["node"])
            first, last = Seq(int(match["first"])), Seq(int(match["last"]))
            found[node].append(FactsFile(node=node, first=first, last=last, path=path))
    return {node: tuple(_contiguous(sorted(files))) for node, files in found.items()}


def _contiguous(files: Iterable[FactsFile]) -> Iterable[FactsFile]:
    expected = 1
    for file in files:
        if file.first != expected:
            return
        expected = file.last + 1
        yield file


def write_durably(frame: pl.DataFrame, path: Path, *, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    """Write ``frame`` to ``path``: after a crash there is all of it or nothing.

    Raises:
        OSError: nothing is at ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        frame.write_parquet(file, compression="zstd", row_group_size=row_group_rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
    sync_directory(path.parent.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
