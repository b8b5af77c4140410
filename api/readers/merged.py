"""The nodes' logs as one: stretches in the order (received_at, node, seq)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from api.readers.base import Tail
from catalog.clock import Micros, to_datetime, to_micros
from catalog.events import RECORDS
from catalog.ids import NodeId, Seq

MERGED = pl.Schema({**RECORDS, "node": pl.String()})
GAP_ROWS = 2_000
"""Records that lie this near are read in one go, what is between them included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """All records of all logs behind some positions that were received up to ``through``.

    ``positions`` are where the next stretch begins.
    """

    records: pl.DataFrame
    positions: Mapping[NodeId, Seq]
    through: Micros


def next_stretch(
    tails: Mapping[NodeId, Tail],
    positions: Mapping[NodeId, Seq],
    *,
    until: Micros,
    rows_max: int,
    era_us: int,
) -> Stretch:
    """The next stretch, of at most ``rows_max`` rows of each log.

    Args:
        tails: the logs.
        positions: the last record of each that was read.
        until: nothing received later is read: up to there every log is complete.
        rows_max: how much of each log.
        era_us: a stretch lies within one era of this length, counted from 1970.
    """
    through, pages = until, dict[NodeId, pl.DataFrame]()
    for node, tail in tails.items():
        after = positions.get(node, Seq(0))
        if tail.durable().seq <= after:
            continue
        page = tail.read_after(after, rows_max=rows_max)
        if not page.height:
            continue
        pages[node] = page
        last_seq, last = int(page["seq"][-1]), to_micros(page["received_at"][-1])
        if last_seq < tail.durable().seq:
            through = min(through, last)
    if pages:
        earliest = min(to_micros(page["received_at"][0]) for page in pages.values())
        through = min(through, Micros((earliest // era_us + 1) * era_us - 1))
    return _cut(pages, positions, through)


def _cut(
    pages: Mapping[NodeId, pl.DataFrame], positions: Mapping[NodeId, Seq], through: Micros
) -> Stretch:
    parts = [MERGED.to_frame()]
    reached = dict(positions)
    for node, page in pages.items():
        part = page.filter(pl.col("received_at") <= to_datetime(through))
        if part.height:
            parts.append(part.with_columns(node=pl.lit(str(node))).select(list(MERGED)))
            reached[node] = Seq(int(part["seq"][-1]))
    records = pl.concat(parts)
    if len(parts) > 2:
        records = records.sort("received_at", "node", "seq")
    return Stretch(records=records, positions=reached, through=through)


def read_seqs(tail: Tail, seqs: Iterable[int]) -> pl.DataFrame:
    """RECORDS of one log by seq, ascending. Those that are near each other are read together."""
    wanted = sorted(set(seqs))
    parts, at = [RECORDS.to_frame()], 0
    while at < len(wanted):
        stop = at + 1
        while stop < len(wanted) and wanted[stop] - wanted[stop - 1] <= GAP_ROWS:
            stop += 1
        parts.extend(_read_near(tail, wanted[at:stop]))
        at = stop
    return pl.concat(parts)


def _read_near(tail: Tail, wanted: Sequence[int]) -> Iterable[pl.DataFrame]:
    place, last = wanted[0] - 1, wanted[-1]
    chosen = pl.Series(wanted, dtype=pl.Int64).implode()
    while place < last:
        records = tail.read_after(Seq(place), rows_max=last - place)
        if records.is_empty():
            raise EOFError(f"record {place + 1} is missing")
        yield records.filter(pl.col("seq").is_in(chosen))
        place = int(records["seq"][-1])
