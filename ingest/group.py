"""One group of submissions becoming one frame of the log. No time, no threads: see ``commit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.clock import Micros
from catalog.errors import DomainError
from catalog.events import RecordKind, RejectCode
from catalog.ids import Seq
from ingest.batch import APPENDED, Checked, Rejection, joined
from ingest.dedupe import Copy, Sorted, sort_copies
from ingest.identity import identities
from ingest.ports import Appended, IdentityIndex, RecordReader
from ingest.voids import VoidItem, VoidOutcome, sort_voids

_CONFLICT = "the identity was accepted before with other content"


class AtomicRejected(DomainError):
    """A body that was to be kept whole or not at all had rejections; nothing was kept."""

    code = "events_rejected"

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        super().__init__(f"{len(rejected)} events were rejected; nothing was kept")
        self.rejected = tuple(rejected)

    @property
    def members(self) -> dict[str, object]:
        """What the problem document tells beside the detail."""
        return {"rejected": [rejection.as_json() for rejection in self.rejected]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a body: accepted + duplicates + rejected are all its events."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


@dataclass(slots=True, kw_only=True, eq=False)
class EventsJob:
    """A validated body. ``dry_run`` keeps nothing; ``atomic`` keeps all or nothing."""

    checked: Checked
    atomic: bool = False
    dry_run: bool = False
    outcome: Outcome | DomainError | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class RecordsJob:
    """Records the service makes itself; they stay together. Known events are left out."""

    records: pl.DataFrame
    outcome: Appended | DomainError | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class VoidsJob:
    """Events to void."""

    items: Sequence[VoidItem]
    outcome: VoidOutcome | DomainError | None = None


Job = EventsJob | RecordsJob | VoidsJob


class Group:
    """What a group of jobs adds to the log, decided in the order the jobs came.

    ``add`` supposes that what is new becomes durable, and sets every outcome but those that
    depend on where records go: :meth:`settle` sets these, once they are durable.
    """

    def __init__(self, *, index: IdentityIndex, reader: RecordReader) -> None:
        self._index = index
        self._reader = reader
        self._parts: list[pl.DataFrame] = []
        self._height = 0
        self._runs: list[tuple[int, pl.DataFrame]] = []
        self._placed: list[tuple[RecordsJob, int, int]] = []
        self._voided: list[int] = []

    @property
    def records(self) -> pl.DataFrame:
        """APPENDED rows to write. May be empty: then nothing need be written or settled."""
        if len(self._parts) == 1:
            return self._parts[0]
        return pl.concat(self._parts) if self._parts else APPENDED.to_frame()

    def add(self, jobs: Sequence[Job]) -> None:
        """Decide what becomes of the jobs. A ``dry_run`` job must be alone in its group."""
        bodies = [job for job in jobs if isinstance(job, EventsJob)]
        if bodies:
            self._add_events(bodies)
        for job in jobs:
            if isinstance(job, RecordsJob):
                self._add_records(job)
            elif isinstance(job, VoidsJob):
                self._add_voids(job)

    def settle(self, appended: Appended) -> None:
        """Remember what has become durable, and say where it is."""
        for offset, ids in self._runs:
            at = _behind(appended, offset, count=ids.height)
            self._index.insert(ids, first_seq=at.first_seq, received_at=at.received_at)
        if self._voided:
            self._index.void(self._voided)
        for job, offset, count in self._placed:
            job.outcome = _behind(appended, offset, count=count)

    def _add_events(self, jobs: list[EventsJob]) -> None:
        while jobs:
            events = joined([job.checked.events for job in jobs]).records()
            found = sort_copies(events, index=self._index, reader=self._reader)
            bounds = np.cumsum([0, *(len(job.checked) for job in jobs)]).tolist()
            spans = list(pairwise(bounds))
            if not found.copies.any():
                for job in jobs:
                    job.outcome = _outcome(job.checked, found.copies[:0])
                break
            for job, (start, end) in zip(jobs, spans, strict=True):
                job.outcome = _outcome(job.checked, found.copies[start:end], atomic=job.atomic)
            kept = [job for job in jobs if isinstance(job.outcome, Outcome)]
            if len(kept) == len(jobs):
                break
            jobs = kept  # without them, a copy of what they brought may be the first one
        if jobs and not jobs[0].dry_run:
            self._keep_new(events, found)

    def _keep_new(self, events: pl.DataFrame, found: Sorted) -> None:
        ids = found.identities
        if found.copies.any():
            new = pl.Series(found.copies == Copy.NEW)
            events, ids = events.filter(new), ids.filter(new)
        if events.height:
            self._runs.append((self._height, ids))
            self._extend(events)

    def _add_records(self, job: RecordsJob) -> None:
        """Add records together, leaving out events that are known: a retry wrote them again."""
        records = job.records.select(APPENDED.names())
        is_event = records["kind"] == RecordKind.EVENT.value
        known = np.zeros(records.height, np.int64)
        if is_event.any():
            known[is_event.to_numpy()] = self._index.probe(identities(records.filter(is_event))).seq
        fresh = records.filter(pl.Series(known == 0))
        if fresh.is_empty() and known.any():
            job.outcome = _found_again(self._reader.read([int(known.max())]))
            return
        start = self._height
        self._extend(fresh)
        self._placed.append((job, start, fresh.height))
        for place in (fresh["kind"] == RecordKind.EVENT.value).arg_true():
            self._runs.append((start + place, identities(fresh[place])))

    def _add_voids(self, job: VoidsJob) -> None:
        found = sort_voids(job.items, index=self._index, before=self._voided)
        job.outcome = found.outcome
        self._voided.extend(found.seqs)
        self._extend(found.records)

    def _extend(self, records: pl.DataFrame) -> None:
        if records.height:
            self._parts.append(records)
            self._height += records.height


def _outcome(
    checked: Checked, copies: npt.NDArray[np.int8], *, atomic: bool = False
) -> Outcome | AtomicRejected:
    """What becomes of a body whose events are ``copies`` (all new, if there are none)."""
    conflicts = np.flatnonzero(copies == Copy.CONFLICT).tolist()
    rejected = checked.rejected
    if conflicts:
        rejected = rejected + [_conflict(checked, row) for row in conflicts]
        rejected.sort(key=lambda rejection: rejection.index)
    if atomic and rejected:
        return AtomicRejected(rejected)
    duplicates = int((copies == Copy.DUPLICATE).sum())
    accepted = len(checked) - duplicates - len(conflicts)
    return Outcome(accepted=accepted, duplicates=duplicates, rejected=rejected)


def _conflict(checked: Checked, row: int) -> Rejection:
    index, identity = checked.events.index[row], checked.events.id[row]
    return Rejection(index=index, id=identity, code=RejectCode.CONFLICT, detail=_CONFLICT)


def _behind(appended: Appended, offset: int, *, count: int) -> Appended:
    """Where the records are that begin ``offset`` rows into what was appended."""
    return Appended(
        first_seq=Seq(appended.first_seq + offset),
        received_at=Micros(appended.received_at + offset),
        count=count,
    )


def _found_again(original: pl.DataFrame) -> Appended:
    """Where records are that were written before; nothing was added."""
    seq, received_at = original.select("seq", pl.col("received_at").to_physical()).row(0)
    return Appended(first_seq=Seq(seq), received_at=Micros(received_at), count=0)
