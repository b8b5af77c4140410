"""Which events of a stretch may be copies, found by the batch; and then which are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from api.readers.earlier import Earlier, received
from catalog.clock import DAY_US, SECOND_US, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.copies import Copied, Identity, Place, Received, copies_among
from storage.copies.days import DAY, HASH
from storage.copies.log import Known
from storage.copies.seen import SeenIdentities

AHEAD_US = 3_600 * SECOND_US
"""An event's time is at most so far ahead of its receipt: ingest refuses others."""
SEQ_BITS = 48

Mask = npt.NDArray[np.bool_]


class CopySearch:
    """Remembers what counts, as far as it must, and asks the logs for the rest.

    ``directory`` is emptied. One thread uses it.
    """

    def __init__(self, *, earlier: Earlier, directory: Path, window_us: int) -> None:
        self._earlier = earlier
        self._directory = directory
        self._window_us = window_us
        self._seen: SeenIdentities | None = None
        self._numbers: list[NodeId] = []
        self._known = Known()

    def forget(self) -> None:
        """Remember nothing; :meth:`prepare` fills it from the logs."""
        self._seen, self._numbers = None, []

    def prepare(
        self,
        nodes: Sequence[NodeId],
        known: Known,
        *,
        through: Micros,
        positions: Mapping[NodeId, Seq],
    ) -> None:
        """Be ready to look behind ``positions``: from the second log on identities are remembered.

        Filling the memory takes about a second for a million events of the window.
        """
        self._known = known
        self._numbers += [node for node in nodes if node not in self._numbers]
        if self._seen is not None or len(self._numbers) < 2:
            return
        seen = SeenIdentities(self._directory, window_us=self._window_us)
        start = Micros(max(0, (seen.era(through) - 1) * self._window_us))
        for records in self._earlier.read_before(start, positions):
            self._insert(
                seen,
                records.filter(pl.col("kind") == RecordKind.EVENT.value),
                self._copies_of(records),
            )
        self._seen = seen

    def copies(self, events: pl.DataFrame, positions: Mapping[NodeId, Seq]) -> list[Copied]:
        """The copies among ``events`` (RECORDS with ``node``), which lie behind ``positions``."""
        suspect, places = self._met(events)
        late = self._late(events)
        if late.any():
            wanted = events.filter(pl.Series(late)).select(day=DAY, hash=HASH)
            newest = events["received_at"].dt.epoch("us").max()
            assert isinstance(newest, int)
            before = Micros(newest - self._window_us)
            found = self._earlier.of_days(wanted.unique(), before=before, positions=positions)
            places |= set(found)
            suspect |= late & (_doubled(events) | bool(found))
        if not suspect.any():
            return []
        counted: dict[Identity, list[Received]] = {}
        for one in self._earlier.events(places - self._known.copies.keys()):
            counted.setdefault(one.identity, []).append(one)
        twice = _same_identity(events, suspect)
        rows = received(events.filter(pl.Series(twice)))
        return list(copies_among(rows, counted, window_us=self._window_us))

    def remember(self, events: pl.DataFrame, copied: Sequence[Copied]) -> None:
        """Remember which of a stretch's events count: all but the copies."""
        if self._seen is not None and events.height:
            self._insert(self._seen, events, {one.copy.place for one in copied})

    def _met(self, events: pl.DataFrame) -> tuple[Mask, set[Place]]:
        """Events whose identity was met within the window or twice here, and where it was met."""
        suspect, places = np.zeros(events.height, np.bool_), set[Place]()
        if self._seen is None:
            return suspect, places
        keys = self._seen.keys(events)
        for found in self._seen.probe(keys):
            suspect |= found > 0
            places |= {self._place(int(number)) for number in np.unique(found) if number}
        suspect |= pl.Series(keys.low).is_duplicated().to_numpy()
        return suspect, places

    def _late(self, events: pl.DataFrame) -> Mask:
        """Events of a day of which there may be some that were received before the window."""
        day_start = DAY.cast(pl.Int64) * DAY_US
        oldest = pl.col("received_at").dt.epoch("us") - self._window_us + AHEAD_US
        return events.select(day_start <= oldest).to_series().to_numpy()

    def _copies_of(self, records: pl.DataFrame) -> set[Place]:
        """Which of the records are known to be copies."""
        if not self._known.copies:
            return set()
        pairs = records.select("node", "seq").iter_rows()
        return {Place(*pair) for pair in pairs} & self._known.copies.keys()

    def _insert(self, seen: SeenIdentities, events: pl.DataFrame, copies: set[Place]) -> None:
        if copies:
            rows = pl.DataFrame(list(copies), schema=["node", "seq"], orient="row")
            events = events.join(rows, on=["node", "seq"], how="anti")
        era = pl.col("received_at").dt.epoch("us") // self._window_us
        for (number,), part in events.group_by(era.alias("era"), maintain_order=True):
            assert isinstance(number, int)
            seen.insert(seen.keys(part), self._numbered(part), era=number)

    def _numbered(self, events: pl.DataFrame) -> npt.NDArray[np.uint64]:
        """Each event's place as a number above 0."""
        numbers = {str(node): (at + 1) << SEQ_BITS for at, node in enumerate(self._numbers)}
        base = pl.col("node").replace_strict(numbers, return_dtype=pl.Int64)
        return events.select((base + pl.col("seq")).cast(pl.UInt64)).to_series().to_numpy()

    def _place(self, number: int) -> Place:
        node = self._numbers[(number >> SEQ_BITS) - 1]
        return Place(node, number & ((1 << SEQ_BITS) - 1))


def _doubled(events: pl.DataFrame) -> Mask:
    return events.select(HASH).to_series().is_duplicated().to_numpy()


def _same_identity(events: pl.DataFrame, suspect: Mask) -> Mask:
    """The suspects and whatever else has their identity."""
    hashes = events.select(hash=HASH)["hash"]
    return hashes.is_in(hashes.filter(pl.Series(suspect)).implode()).to_numpy()
