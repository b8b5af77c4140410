"""One group of submissions becoming one frame of the log. No time, no threads: see ``commit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.clock import Micros
from catalog.errors import DomainError
from catalog.events import RecordKind, RejectCode
from catalog.ids import Seq
from ingest.batch import Checked, Rejection, one_batch, to_records
from ingest.dedupe import Copy, Sorted, identities_of, sort_copies
from ingest.identity import Identities
from ingest.kernels.json_events import CAREFUL
from ingest.ports import Appended, IdentityIndex, RecordReader
from ingest.scan import BodyReader, Plain
from ingest.voids import VoidItem, VoidOutcome, sort_voids

_ALL_NEW = np.zeros(0, np.int8)
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


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a body: accepted + duplicates + rejected are all its events."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


class EventsJob(msgspec.Struct, kw_only=True, eq=False):
    """A body: validated, or plain and to be read with its group.

    ``dry_run`` keeps nothing; ``atomic`` keeps all or nothing. ``rows`` is how many events of it
    are in the group.
    """

    checked: Checked | None = None
    plain: Plain | None = None
    atomic: bool = False
    dry_run: bool = False
    rows: int = 0
    outcome: Outcome | DomainError | None = None

    @property
    def rejected(self) -> list[Rejection]:
        """What was refused before the events of the group were compared."""
        return [] if self.checked is None else self.checked.rejected


@dataclass(slots=True, kw_only=True, eq=False)
class RecordsJob:
    """APPENDED_ARROW rows the service makes itself, in one piece. Known events are left out."""

    records: pa.RecordBatch
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

    def __init__(
        self, *, index: IdentityIndex, reader: RecordReader, bodies: BodyReader | None = None
    ) -> None:
        self._index = index
        self._reader = reader
        self._bodies = bodies
        self._parts: list[pa.RecordBatch] = []
        self._height = 0
        self._runs: list[tuple[int, Identities]] = []
        self._placed: list[tuple[RecordsJob, int, int]] = []
        self._voided: list[int] = []

    @property
    def records(self) -> pa.RecordBatch:
        """APPENDED_ARROW rows to write. May be empty: then nothing need be written or settled."""
        return one_batch(self._parts)

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
            at = _behind(appended, offset, count=len(ids))
            self._index.insert(ids, first_seq=at.first_seq, received_at=at.received_at)
        if self._voided:
            self._index.void(self._voided)
        for job, offset, count in self._placed:
            job.outcome = _behind(appended, offset, count=count)

    def _add_events(self, jobs: list[EventsJob]) -> None:
        events, jobs = self._read(jobs)
        while jobs:
            found = sort_copies(events, index=self._index, reader=self._reader)
            spans = list(pairwise(accumulate((job.rows for job in jobs), initial=0)))
            copies = found.copies if found.copies.any() else _ALL_NEW
            for job, (start, end) in zip(jobs, spans, strict=True):
                job.outcome = _outcome(job, copies[start:end], events=events, start=start)
            kept = [isinstance(job.outcome, Outcome) for job in jobs]
            if all(kept):
                if not jobs[0].dry_run:
                    self._keep_new(events, found)
                return
            # Without the others, a copy of what they brought may be the first one.
            events = events.filter(pa.array(np.repeat(kept, [job.rows for job in jobs])))
            jobs = [job for job, keep in zip(jobs, kept, strict=True) if keep]

    def _read(self, jobs: list[EventsJob]) -> tuple[pa.RecordBatch, list[EventsJob]]:
        """The events of all bodies that can be read, and their jobs in the events' order."""
        plain = [job for job in jobs if job.plain is not None]
        batches: list[pa.RecordBatch] = []
        if plain:
            batches.append(self._scan(plain))
        scanned = [job for job in plain if job.checked is None and job.outcome is None]
        checked = [job for job in jobs if job.checked is not None and job.outcome is None]
        for job in checked:
            assert job.checked is not None
            job.rows = len(job.checked)
            batches.append(job.checked.records)
        return one_batch([batch for batch in batches if batch.num_rows]), scanned + checked

    def _scan(self, jobs: list[EventsJob]) -> pa.RecordBatch:
        """The events of plain bodies. One that turns out not to be plain is read carefully."""
        assert self._bodies is not None
        bodies = [job.plain for job in jobs if job.plain is not None]
        scanned = self._bodies.scan(bodies)
        for job, plain, count in zip(jobs, bodies, scanned.counts, strict=True):
            if count != CAREFUL:
                job.rows = count
                continue
            try:
                job.checked = self._bodies.read_carefully(plain.body)
            except DomainError as error:
                job.outcome = error
            else:
                if job.atomic and job.checked.rejected:
                    job.outcome = AtomicRejected(job.checked.rejected)
        return scanned.records

    def _keep_new(self, events: pa.RecordBatch, found: Sorted) -> None:
        ids = found.identities
        if found.copies.any():
            new = found.copies == Copy.NEW
            events, ids = events.filter(pa.array(new)), ids.keep(new)
        if len(ids):
            self._runs.append((self._height, ids))
            self._extend(events)

    def _add_records(self, job: RecordsJob) -> None:
        """Add records together, leaving out events that are known: a retry wrote them again."""
        fresh, is_event = job.records, _are_events(job.records)
        known = np.zeros(fresh.num_rows, np.int64)
        if is_event.any():
            known[is_event] = self._index.probe(self._identify(fresh, is_event)).seq
        if known.any():
            fresh = fresh.filter(pa.array(known == 0))
            is_event = _are_events(fresh)
            if not fresh.num_rows:
                job.outcome = _found_again(self._reader.read([int(known.max())]))
                return
        start = self._height
        self._extend(fresh)
        self._placed.append((job, start, fresh.num_rows))
        if is_event.any():
            ids = self._identify(fresh, is_event)
            for row, place in enumerate(np.flatnonzero(is_event).tolist()):
                self._runs.append((start + place, ids.keep(slice(row, row + 1))))

    def _identify(self, records: pa.RecordBatch, which: npt.NDArray[np.bool_]) -> Identities:
        return identities_of(records.filter(pa.array(which)), key=self._index.key)

    def _add_voids(self, job: VoidsJob) -> None:
        found = sort_voids(job.items, index=self._index, reader=self._reader, before=self._voided)
        job.outcome = found.outcome
        self._voided.extend(found.seqs)
        self._extend(to_records(found.records))

    def _extend(self, records: pa.RecordBatch) -> None:
        if records.num_rows:
            self._parts.append(records)
            self._height += records.num_rows


def _are_events(records: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = records.column("kind").to_numpy() == RecordKind.EVENT.value
    return found


def _outcome(
    job: EventsJob, copies: npt.NDArray[np.int8], *, events: pa.RecordBatch, start: int
) -> Outcome | AtomicRejected:
    """What becomes of a body whose events are ``copies`` (none: all are new).

    Its events begin at ``start`` of the group's ``events``.
    """
    if not len(copies) and not job.rejected:
        return _all_accepted(job.rows)
    conflicts = np.flatnonzero(copies == Copy.CONFLICT).tolist()
    rejected = job.rejected
    if conflicts:
        rejected = rejected + [
            Rejection(
                index=row if job.checked is None else job.checked.index[row],
                id=events.column("id")[start + row].as_py(),
                code=RejectCode.CONFLICT,
                detail=_CONFLICT,
            )
            for row in conflicts
        ]
        rejected.sort(key=lambda rejection: rejection.index)
    if job.atomic and rejected:
        return AtomicRejected(rejected)
    duplicates = int((copies == Copy.DUPLICATE).sum())
    accepted = job.rows - duplicates - len(conflicts)
    return Outcome(accepted=accepted, duplicates=duplicates, rejected=rejected)


@lru_cache(1024)
def _all_accepted(rows: int) -> Outcome:
    """Almost every body's outcome."""
    return Outcome(accepted=rows, duplicates=0, rejected=[])


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
