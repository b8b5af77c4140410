"""What was derived from a node's log against the log itself, record by record.

Both sides are read page by page and reduced to rows of (seq, hour, digest, value); the digest is
Polars' hash of everything else, computed here for both. Counts, digests and exact sums must be
equal for every hour of receipt, and where they are not the first record that differs is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from api.checks.report import Check
from api.readers.base import Tail
from api.readers.pages import voids_of
from catalog.events import FACTS, RECORDS, VOIDS, RecordKind
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from ingest.extract import extract_facts

PAGE_ROWS = 100_000
EVENT_COLUMNS = [c for c in RECORDS if c not in {"kind", "target"}]
VOID_COLUMNS = [c for c in VOIDS if c != "node"]
FACT_COLUMNS = [c for c in FACTS if c != "node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Records ``[first, last]`` of one node's log."""

    node: NodeId
    first: Seq
    last: Seq


class Expected(Protocol):
    """What a stretch of the log says a store must hold."""

    def __call__(self, records: pl.DataFrame) -> pl.DataFrame:
        """Rows with ``seq`` and ``received_at``."""
        ...


class Stored(Protocol):
    """What a store holds."""

    def __call__(self, stretch: Stretch) -> pl.DataFrame:
        """Its rows of the stretch, with the columns of :class:`Expected`, in any order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One store's copy of one node's log: what it should hold up to ``until``, and holds."""

    check: str
    store: str
    node: NodeId
    until: Seq
    expected: Expected
    stored: Stored


def events_expected(records: pl.DataFrame) -> pl.DataFrame:
    """The events of a stretch."""
    return records.filter(pl.col("kind") == RecordKind.EVENT.value).select(EVENT_COLUMNS)


def voids_expected(node: NodeId) -> Expected:
    """The compensations of a stretch of ``node``."""

    def expected(records: pl.DataFrame) -> pl.DataFrame:
        return voids_of(records, node=node).select(VOID_COLUMNS)

    return expected


def facts_expected(node: NodeId, specs: Sequence[FactSpec]) -> Expected:
    """The facts of ``specs`` in a stretch of ``node``."""

    def expected(records: pl.DataFrame) -> pl.DataFrame:
        return extract_facts(records, specs, node=node).select(FACT_COLUMNS)

    return expected


def by_position(
    positions: Mapping[SpecId, Seq], specs: Mapping[SpecId, FactSpec]
) -> dict[Seq, list[FactSpec]]:
    """Specs by how far they are, so that those level with each other are compared in one pass."""
    levels: dict[Seq, list[FactSpec]] = {}
    for key, position in positions.items():
        levels.setdefault(position, []).append(specs[key])
    return levels


def check_derived(
    comparison: Comparison, tail: Tail, *, progress: Callable[[int], None] = lambda _: None
) -> Check:
    """Compare a store with the log from record 1 to ``comparison.until``."""
    place, rows = 0, 0
    detail = f"level with the log up to {comparison.until}"
    well = Check.well(comparison.check, comparison.store, comparison.node, detail)
    while place < comparison.until:
        wanted = min(PAGE_ROWS, comparison.until - place)
        records = tail.read_after(Seq(place), rows_max=wanted)
        if records.is_empty():
            return well.differs(Seq(place + 1), "the log ends before the store does")
        last = Seq(int(records["seq"][-1]))
        stretch = Stretch(node=comparison.node, first=Seq(place + 1), last=last)
        ours = comparison.expected(records)
        found = first_difference(ours, comparison.stored(stretch).select(ours.columns))
        if found is not None:
            return well.differs(*found)
        place, rows = last, rows + ours.height
        progress(records.height)
    return Check.well(comparison.check, comparison.store, comparison.node, f"{rows} rows, {detail}")


def first_difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> tuple[Seq, str] | None:
    """The first record whose rows differ, and how; None where both hold the same rows."""
    ours, theirs = _digested(ours), _digested(theirs)
    if _hourly(ours).equals(_hourly(theirs)) and ours.equals(theirs):
        return None
    here, there = _counted(ours, 1), _counted(theirs, -1)
    uneven = (
        pl.concat([here, there])
        .group_by("seq", "hour", "digest")
        .agg(pl.col("n").sum())
        .filter(pl.col("n") != 0)
        .sort("seq", "n")
    )
    seq, hour = uneven.select("seq", "hour").row(0)
    own = uneven.filter(pl.col("seq") == seq)["n"]
    said = "differs from" if own.min() != own.max() else _one_sided(int(own[0]))
    return Seq(seq), f"received {hour:%Y-%m-%dT%H}h: record {seq} {said} the log"


def _one_sided(count: int) -> str:
    return "is missing, it is in" if count > 0 else "is there more often than in"


def _digested(rows: pl.DataFrame) -> pl.DataFrame:
    value = pl.col("value") if "value" in rows.columns else pl.lit(None, pl.Decimal(38, 9))
    return rows.select(
        "seq",
        hour=pl.col("received_at").dt.truncate("1h"),
        digest=pl.struct(pl.col(sorted(rows.columns))).hash(),
        value=value,
    ).sort("seq", "digest")


def _hourly(rows: pl.DataFrame) -> pl.DataFrame:
    return (
        rows.group_by("hour")
        .agg(count=pl.len(), digests=pl.col("digest").sum(), sum=pl.col("value").sum())
        .sort("hour")
    )


def _counted(rows: pl.DataFrame, sign: int) -> pl.DataFrame:
    counts = rows.group_by("seq", "hour", "digest").agg(n=pl.len().cast(pl.Int64) * sign)
    return counts.select("seq", "hour", "digest", "n")
