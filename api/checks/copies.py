"""Whether every identity counts once: the copies in the logs, recounted, and those written.

Identities are compared by the share of their hashes, so that memory stays bounded: the logs are
read once for every few million events. Nothing of what the copies reader remembers is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from api.checks.report import Check
from api.readers.base import Tail
from catalog.clock import DAY_US
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.copies import Place
from storage.copies.log import Known, read_known

EVENTS_MAX = 4_000_000
PAGE_ROWS = 100_000
KEY = ["low", "high"]


def check_copies(
    tails: Mapping[NodeId, Tail],
    compensations: Tail,
    *,
    window_us: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Check:
    """Compare the copies that were written with a recount, up to where the reader says it was."""
    well = Check.well("copies", "compensations", None, "every identity counts once")
    known = read_known(compensations)
    shares = 1 + sum(known.positions.values()) // EVENTS_MAX
    found = set[Place]()
    for share in range(shares):
        repeated = _repeated(tails, known, share=share, shares=shares, progress=progress)
        found |= _copies(repeated, window_us=window_us)
    for place in sorted(found - known.copies.keys()):
        return well.differs(Seq(place.seq), f"record {place.seq} of {place.node} counts twice")
    for place in sorted(known.copies.keys() - found):
        return well.differs(Seq(place.seq), f"record {place.seq} of {place.node} is no copy")
    return Check.well("copies", "compensations", None, f"{len(found)} copies, as recounted")


def _repeated(
    tails: Mapping[NodeId, Tail],
    known: Known,
    *,
    share: int,
    shares: int,
    progress: Callable[[int], None],
) -> pl.DataFrame:
    """The events of one share of the hashes whose identity is there more than once, in order."""
    parts = []
    for node, tail in tails.items():
        for events in _identified(node, tail, until=known.positions.get(node, Seq(0))):
            parts.append(events.filter(pl.col("low") % shares == share))
            progress(events.height)
    if not parts:
        return pl.DataFrame()
    events = pl.concat(parts)
    return events.filter(pl.struct(KEY).is_duplicated()).sort(*KEY, "received_at", "node", "seq")


def _identified(node: NodeId, tail: Tail, *, until: Seq) -> Iterator[pl.DataFrame]:
    place = Seq(0)
    while place < until:
        records = tail.read_after(place, rows_max=min(PAGE_ROWS, until - place))
        if records.is_empty():
            return
        place = Seq(int(records["seq"][-1]))
        yield records.filter(pl.col("kind") == RecordKind.EVENT.value).select(
            pl.struct("source", "id").hash(0x0C1).alias("low"),
            pl.struct("id", "source").hash(0x0C2).alias("high"),
            pl.lit(str(node)).alias("node"),
            "seq",
            pl.col("received_at").dt.epoch("us"),
            (pl.col("time").dt.epoch("us") // DAY_US).alias("day"),
        )


def _copies(repeated: pl.DataFrame, *, window_us: int) -> set[Place]:
    """The copies among events in order of (identity, receipt)."""
    if repeated.is_empty():
        return set()
    copies, counted, current = set(), list[tuple[int, int]](), None
    rows = repeated.select(*KEY, "node", "seq", "received_at", "day").iter_rows()
    for low, high, node, seq, received_at, day in rows:
        if (low, high) != current:
            current, counted = (low, high), []
        if any(day == other or received_at - at <= window_us for at, other in counted):
            copies.add(Place(node, seq))
        else:
            counted.append((received_at, day))
    return copies
