"""Looking back in the logs: events by place, and events of a time day by identity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import polars as pl

from api.readers.base import Tail
from api.readers.merged import read_seqs
from catalog.clock import Micros, to_datetime
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.copies import Place, Received
from storage.copies.days import CANDIDATES, DayFiles, TimedSegment, identified

PAGE_ROWS = 50_000


class OldSegment(TimedSegment, Protocol):
    """What is asked of a manifest: also when it was received."""

    @property
    def first_received_at(self) -> Micros:
        """When the first record was received."""
        ...

    @property
    def last_received_at(self) -> Micros:
        """When the last record was received."""
        ...


class SealedTail(Tail, Protocol):
    """A gateway's log with its manifests."""

    def segments(self) -> Sequence[OldSegment]:
        """The sealed segments, in log order."""
        ...


class Earlier:
    """Reads what was looked at before. One thread uses it, with followers of its own."""

    def __init__(self, *, tails: Callable[[], Mapping[NodeId, SealedTail]], days: DayFiles) -> None:
        self._tails = tails
        self._days = days

    def events(self, places: Iterable[Place]) -> list[Received]:
        """The events at ``places``, in order of receipt."""
        return events_at(places, self._tails())

    def of_days(
        self, wanted: pl.DataFrame, *, before: Micros, positions: Mapping[NodeId, Seq]
    ) -> list[Place]:
        """Events of a day that may have a wanted identity, among those received before an instant.

        Args:
            wanted: rows of :data:`storage.copies.days.WANTED`, at least one.
            before: later ones are not looked at.
            positions: nor is what lies behind these.
        """
        found = [CANDIDATES.to_frame()]
        for node, tail in self._tails().items():
            last = positions.get(node, Seq(0))
            segments = [
                s for s in tail.segments() if s.first_received_at < before and s.first_seq <= last
            ]
            rows = self._days.find(wanted, segments, node=node, read=_reading(tail))
            found.append(rows.filter(pl.col("seq") <= last))
            sealed = tail.segments()[-1].last_seq if tail.segments() else Seq(0)
            for records in _unsealed(tail, after=sealed, before=before, last=last):
                rows = identified(records, node=node)
                found.append(rows.join(wanted, on=["day", "hash"], how="semi"))
        rows = pl.concat(found)
        return [Place(node, seq) for node, seq in rows.select("node", "seq").iter_rows()]

    def read_before(self, start: Micros, positions: Mapping[NodeId, Seq]) -> Iterator[pl.DataFrame]:
        """RECORDS with their ``node`` received from about ``start`` on, up to the positions."""
        for node, tail in self._tails().items():
            old = [s.last_seq for s in tail.segments() if s.last_received_at < start]
            place, last = max(old, default=Seq(0)), positions.get(node, Seq(0))
            while place < last:
                records = tail.read_after(place, rows_max=min(PAGE_ROWS, last - place))
                if records.is_empty():
                    raise EOFError(f"{node}: record {place + 1} is missing")
                place = Seq(int(records["seq"][-1]))
                yield records.filter(pl.col("received_at") >= to_datetime(start)).with_columns(
                    node=pl.lit(str(node))
                )


def events_at(places: Iterable[Place], tails: Mapping[NodeId, Tail]) -> list[Received]:
    """The events at ``places``, in order of receipt."""
    seqs: dict[str, set[int]] = defaultdict(set)
    for node, seq in places:
        seqs[node].add(seq)
    found = []
    for node, wanted in seqs.items():
        records = read_seqs(tails[NodeId(node)], wanted)
        found += received(records.with_columns(node=pl.lit(node)))
    return sorted(found, key=lambda one: (one.received_at, one.node, one.seq))


def received(records: pl.DataFrame) -> list[Received]:
    """The events among RECORDS with a ``node``, in their order."""
    events = records.filter(pl.col("kind") == RecordKind.EVENT.value)
    columns = events.with_columns(pl.col("received_at", "time").dt.epoch("us"))
    return [Received(*row) for row in columns.select(Received._fields).iter_rows()]


def _reading(tail: Tail) -> Callable[[TimedSegment], pl.DataFrame]:
    def read(segment: TimedSegment) -> pl.DataFrame:
        return read_seqs(tail, range(segment.first_seq, segment.last_seq + 1))

    return read


def _unsealed(tail: Tail, *, after: Seq, before: Micros, last: Seq) -> Iterator[pl.DataFrame]:
    place = after
    while place < last:
        records = tail.read_after(place, rows_max=min(PAGE_ROWS, last - place))
        if records.is_empty():
            return
        place = Seq(int(records["seq"][-1]))
        yield records.filter(pl.col("received_at") < to_datetime(before))
        if records["received_at"][-1] >= to_datetime(before):
            return
