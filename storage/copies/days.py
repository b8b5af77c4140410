"""Which old events have an identity and a time day: one small file per sealed segment, on demand.

Only an event whose own time lies before the window can be a copy of something received before the
window, so this is asked seldom. A segment is read once, when an event first asks for a day that
the segment's manifest has; from then on its file answers: (day, hash, seq), sorted, so that a
question reads a row group or two of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import polars as pl

from catalog.clock import DAY_US, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from storage.parquet.files import file_name, write_durably

WANTED = pl.Schema({"day": pl.Int32(), "hash": pl.UInt64()})
"""One row an event that may be a copy."""
CANDIDATES = pl.Schema({"node": pl.String(), "seq": pl.Int64(), **WANTED})
"""One row an old event of that day with that hash: whether it is the same identity, look."""

ROW_GROUP_ROWS = 1 << 14
_SEEDS = (0x0DA7, 0x0DA8)
DAY = pl.col("time").dt.epoch("d").cast(pl.Int32)
HASH = pl.col("source").hash(_SEEDS[0]) ^ pl.col("id").hash(_SEEDS[1])


class TimedSegment(Protocol):
    """What is asked of a sealed segment's manifest."""

    @property
    def first_seq(self) -> Seq:
        """The first record."""
        ...

    @property
    def last_seq(self) -> Seq:
        """The last record."""
        ...

    @property
    def first_time(self) -> Micros | None:
        """The earliest event's time, null without events."""
        ...

    @property
    def last_time(self) -> Micros | None:
        """The latest event's time, null without events."""
        ...


def identified(records: pl.DataFrame, *, node: NodeId) -> pl.DataFrame:
    """CANDIDATES of every event among RECORDS of ``node``."""
    events = records.filter(pl.col("kind") == RecordKind.EVENT.value)
    columns = events.select("seq", node=pl.lit(str(node)), day=DAY, hash=HASH.cast(pl.UInt64))
    return columns.select(list(CANDIDATES)).cast(CANDIDATES)


class DayFiles:
    """The files, under one directory that may be removed at any time."""

    def __init__(self, directory: Path) -> None:
        # Another release of Polars hashes otherwise: its files are not ours.
        self._directory = directory / f"polars-{pl.__version__}"

    def find(
        self,
        wanted: pl.DataFrame,
        segments: Iterable[TimedSegment],
        *,
        node: NodeId,
        read: Callable[[TimedSegment], pl.DataFrame],
    ) -> pl.DataFrame:
        """CANDIDATES in ``segments`` of ``node`` for WANTED rows.

        Args:
            wanted: at least one row.
            segments: where to look; those without such a day are passed over.
            node: whose segments they are.
            read: the RECORDS of a segment.
        """
        first, last = wanted.select(pl.col("day").min(), last=pl.col("day").max()).row(0)
        found = [CANDIDATES.to_frame()]
        for segment in segments:
            days = _days(segment)
            if days is None or days[1] < first or days[0] > last:
                continue
            near = wanted.filter(pl.col("day").is_between(*days))
            if near.height:
                path = self._built(segment, node, read)
                found.append(_matching(path, near).with_columns(node=pl.lit(str(node))))
        return pl.concat(part.select(list(CANDIDATES)).cast(CANDIDATES) for part in found)

    def _built(
        self, segment: TimedSegment, node: NodeId, read: Callable[[TimedSegment], pl.DataFrame]
    ) -> Path:
        name = file_name(node=node, first=segment.first_seq, last=segment.last_seq)
        path = self._directory / name
        if not path.exists():
            rows = identified(read(segment), node=node).drop("node").sort("day", "hash", "seq")
            write_durably(rows, path, row_group_rows=ROW_GROUP_ROWS)
        return path


def _days(segment: TimedSegment) -> tuple[int, int] | None:
    if segment.first_time is None or segment.last_time is None:
        return None
    return segment.first_time // DAY_US, segment.last_time // DAY_US


def _matching(path: Path, wanted: pl.DataFrame) -> pl.DataFrame:
    days, hashes = wanted["day"].unique(), wanted["hash"].unique()
    return (
        pl.scan_parquet(path, glob=False)
        .filter(
            pl.col("day").is_between(days.min(), days.max()),
            pl.col("hash").is_in(hashes.implode()),
        )
        .join(wanted.lazy().unique(), on=["day", "hash"], how="semi")
        .collect()
    )
