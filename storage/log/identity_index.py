"""Which (source, id) this node accepted: exact over the window, kept on disk, made from the log.

What is recent is in memory (:mod:`.identity.table`); what is older in sorted runs on disk
(:mod:`.identity.run`), whose filters are in memory. A table that is full is frozen, written as a
run in the background, and runs of a size are merged: slice by slice, with rests in between, so that
the thread that answers never waits for more than one (ADR 11). A checkpoint names the runs and the
record up to which they cover the log; the rest is read from the log again when the index is opened.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from catalog.clock import SECOND_US, Micros
from catalog.ids import NodeId, Seq
from ingest.dedupe import identities_of
from ingest.identity import Identities
from ingest.ports import LogUnavailable, Probed
from storage.log.files import Files, OsFiles
from storage.log.frames import Stored
from storage.log.identity.background import Background
from storage.log.identity.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    NoCheckpoint,
    drop_others,
    read_checkpoint,
    write_checkpoint,
)
from storage.log.identity.keys import I64, Entries, Found, Keys
from storage.log.identity.pacing import Pacing, Rest, no_rest
from storage.log.identity.replay import ReplayedLog, received_since, replayed
from storage.log.identity.run import Run, RunDamaged, RunRange, merged, write_run
from storage.log.identity.runs import FAN_IN, RunSet, covering
from storage.log.identity.table import RecentTable

DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLimits:
    """Identities a table takes before it is frozen, and frozen tables that may wait."""

    table_rows: int = 1 << 18
    backlog_max: int = 8
    run_span_share: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    directory: Path
    node: NodeId
    window_us: int
    files: Files
    limits: IndexLimits


class _Older(NamedTuple):
    """What is no longer written to: replaced as one, so that a reader never misses a part."""

    frozen: tuple[RecentTable, ...]
    runs: RunSet


def _check_fits(checkpoint: Checkpoint, home: _Home, log: ReplayedLog) -> None:
    if checkpoint.seq >= log.next_seq:
        raise NoCheckpoint("it covers more than there is in the log")
    if checkpoint.window_us < home.window_us:
        raise NoCheckpoint("it was kept for a shorter window")


class DiskIdentityIndex:
    """The identity index of one node; see :class:`ingest.ports.IdentityIndex`.

    Everything but ``maintain`` belongs to one thread, the log's. With ``background`` a thread of
    its own calls ``maintain``; without, somebody must.
    """

    def __init__(self, home: _Home, checkpoint: Checkpoint) -> None:
        self._home = home
        self.key = np.array(checkpoint.key, np.uint64)
        self._covered = checkpoint.seq
        self._voids = set(checkpoint.voids)
        runs = [
            Run(home.directory, covers, files=home.files, check=True) for covers in checkpoint.runs
        ]
        self._older = _Older((), RunSet(tuple(runs)))
        self._active = RecentTable(home.limits.table_rows)
        self._active.touch()
        self._spare: RecentTable | None = None
        self._last_received_at = 0
        self._last_seq = self._settled = checkpoint.seq
        self._swap = threading.Lock()
        self._maintenance = threading.Lock()
        self._changing = threading.Lock()
        self._pacing = Pacing()
        self._background: Background | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        log: ReplayedLog,
        *,
        window_days: int = 35,
        files: Files | None = None,
        limits: IndexLimits | None = None,
        background: bool = True,
    ) -> DiskIdentityIndex:
        """Open the index in ``directory`` and bring it up to the end of ``log``.

        Without a usable checkpoint it is made again from the window's part of the log.

        Raises:
            LogUnavailable: the disk failed.
            LogCorrupt: the log cannot be read back.
        """
        home = _Home(
            directory=directory,
            node=log.node,
            window_us=window_days * DAY_US,
            files=files or OsFiles(),
            limits=limits or IndexLimits(),
        )
        try:
            home.files.make_dir(directory)
            index = cls._restored(home, log)
            index.replay(log)
        except OSError as error:
            raise LogUnavailable(f"cannot open the index in {directory}: {error}") from error
        if background:
            index.maintain_in_background()
        return index

    @classmethod
    def _restored(cls, home: _Home, log: ReplayedLog) -> DiskIdentityIndex:
        """The index as its checkpoint has it, or an empty one before the window."""
        directory, files = home.directory, home.files
        try:
            checkpoint = read_checkpoint(directory, node=home.node, files=files)
            _check_fits(checkpoint, home, log)
            index = cls(home, checkpoint)
        except (NoCheckpoint, RunDamaged):
            drop_others(directory, frozenset(), files=files)
            return cls(
                home,
                Checkpoint(
                    node=home.node,
                    window_us=home.window_us,
                    seq=log.seq_before(log.last_received_at - home.window_us),
                    key=(secrets.randbits(64), secrets.randbits(64)),
                    runs=(),
                    voids=frozenset(),
                ),
            )
        keep = {CHECKPOINT_NAME, *(covers.name for covers in checkpoint.runs)}
        drop_others(directory, frozenset(keep), files=files)
        return index

    def maintain_in_background(self) -> None:
        """Call :meth:`maintain` in a thread whenever a table is full, with rests."""
        name = f"identity-index-{self._home.node}"
        self._background = Background(self._maintain_gently, name=name)
        self._background.wake()

    def replay(self, log: ReplayedLog) -> None:
        """Read what the runs do not cover from the log.

        What left the window is passed over: an identity may have come back since, and then it is
        the later record that is known by it, and for how long.
        """
        horizon = log.last_received_at - self._home.window_us
        for stretch in replayed(log, self._covered):
            events = received_since(stretch.events, horizon)
            if len(events.seqs):
                self._replay_events(events)
            self.void(stretch.voided)
            self._last_seq = self._settled = stretch.last_seq
            self._make_room()

    def _replay_events(self, events: Stored) -> None:
        """Add the identities of ``events`` that are not known: the first copy is the one kept."""
        identities = identities_of(events.records, key=self.key)
        found = self._find(identities)
        first = identities.first() == np.arange(len(identities))
        new = np.flatnonzero(first & (found.seq == 0))
        entries = _entries(identities, events.seqs).take(new)
        self._add(entries, (int(events.received_at[0]), int(events.received_at[-1])))

    def probe(self, identities: Identities) -> Probed:
        """Look up a batch; see :class:`ingest.ports.IdentityIndex`.

        A probe begins a group, so all groups before it are settled: what they appended has been
        inserted, and voided.

        Raises:
            LogUnavailable: tables cannot be written, and no more may wait in memory. Nothing of
                the group was taken, and a later one may be, once there is space.
        """
        self._make_room()
        self._settled = self._last_seq
        found = self._find(identities)
        same = (found.seq != 0) & (found.content == identities.content)
        return Probed(seq=found.seq, same=same)

    def _find(self, identities: Identities) -> Found:
        keys = Keys(identities.low, identities.high)
        found = Found.nothing(len(identities))
        older = self._older
        self._active.probe(keys, found)
        for table in older.frozen:
            table.probe(keys, found)
        older.runs.probe(keys, found)
        return found

    def insert(self, identities: Identities, *, first_seq: Seq, received_at: Micros) -> None:
        """Remember new identities, all different; see :class:`ingest.ports.IdentityIndex`.

        It cannot fail: they are in the log already, and an index without them would let their
        copies in.
        """
        rows = len(identities)
        entries = _entries(identities, np.arange(first_seq, first_seq + rows))
        self._add(entries, (received_at, received_at + rows - 1))

    def _add(self, entries: Entries, received: tuple[int, int]) -> None:
        rows = len(entries.seq)
        at = 0
        while at < rows:
            room = self._active.capacity - self._active.count
            stop = min(rows, at + room)
            self._active.insert(entries.part(at, stop), received=received)
            self._last_received_at = max(self._last_received_at, received[1])
            self._last_seq = self._active.last_seq
            at = stop
            if self._active.count == self._active.capacity:
                self._freeze()

    def _freeze(self) -> None:
        # A checkpoint may be written before the group's voids are marked: it must not cover them.
        self._active.settled_seq = self._settled
        with self._swap:
            frozen, runs = self._older
            self._older = _Older((*frozen, self._active), runs)
            self._active = self._spare or RecentTable(self._home.limits.table_rows)
            self._spare = None
        if self._background is not None:
            self._background.wake()

    def _make_room(self) -> None:
        """Let no more tables wait in memory than may. Between groups, never inside of one."""
        if len(self._older.frozen) <= self._home.limits.backlog_max:
            return
        try:
            if self._background is None:
                self.maintain()
                return
            with self._pacing.hurried():  # merging is left to the thread: it may take seconds
                self._write_waiting()
        except OSError as error:
            raise LogUnavailable(f"cannot write the index: {error}") from error

    def void(self, seqs: Sequence[int]) -> None:
        """Mark accepted identities void, by seq. Idempotent."""
        self._voids.update(seqs)

    def is_void(self, seqs: Sequence[int]) -> list[bool]:
        """Whether each accepted identity is void."""
        return [seq in self._voids for seq in seqs]

    def maintain(self) -> None:
        """Write frozen tables, drop runs that left the window, merge. Any thread may call it.

        Raises:
            OSError: the disk failed. Nothing is lost, and it may be tried again.
        """
        with self._pacing.hurried():  # where the background is at it, this waits for it
            self._maintain(no_rest)

    def _maintain_gently(self) -> None:
        """The same with rests, and a table made ready before one is needed."""
        self._pacing.begin()

        def pause() -> None:
            self._pacing.rest(self._waiting())

        def rest() -> None:
            pause()
            self._make_spare(pause)

        self._make_spare(pause)
        self._maintain(rest)

    def _make_spare(self, rest: Rest) -> None:
        if self._spare is not None:
            return
        spare = RecentTable(self._home.limits.table_rows)
        spare.touch(rest)
        with self._swap:
            self._spare = spare

    def _maintain(self, rest: Rest) -> None:
        with self._maintenance:
            self._write_waiting(rest)
            horizon = self._last_received_at - self._home.window_us
            with self._changing:
                if expired := self._older.runs.expired(horizon):
                    self._replace(expired)
            self._merge(rest)

    def _waiting(self) -> int:
        """How much waits beside what is being done: tables, and runs that nobody has merged."""
        frozen, runs = self._older
        fresh = sum(run.count <= self._home.limits.table_rows for run in runs.runs)
        return max(0, len(frozen) - 1) + max(0, fresh - 2 * FAN_IN)

    def _write_waiting(self, rest: Rest = no_rest) -> bool:
        """Write the frozen tables; whether there was one."""
        wrote = False
        while self._older.frozen:
            with self._changing:
                if self._older.frozen:  # else another thread has written it
                    self._write_frozen(self._older.frozen[0], rest)
            wrote = True
        return wrote

    def _merge(self, rest: Rest, *, after: int = 0) -> None:
        """Merge what is due, of the runs behind the record ``after``.

        The longer a merge, the more becomes due meanwhile: it goes first, so that neither tables in
        memory nor short runs pile up.
        """
        limits = self._home.limits
        span_us_max = self._home.window_us // limits.run_span_share
        while group := self._older.runs.to_merge(
            smallest=limits.table_rows, span_us_max=span_us_max, after=after
        ):
            covers = covering(group)

            def between(last_seq: int = covers.last_seq) -> None:
                rest()
                if self._write_waiting(rest):
                    self._merge(rest, after=last_seq)

            count = sum(run.count for run in group)
            run = self._written(covers, merged(group), count, between)
            with self._changing:
                self._replace(group, instead=run)

    def _write_frozen(self, table: RecentTable, rest: Rest) -> None:
        covers = RunRange(
            first_seq=table.first_seq,
            last_seq=table.last_seq,
            first_received_at=table.first_received_at,
            last_received_at=table.last_received_at,
        )
        run = self._written(covers, table.sorted(), table.count, rest)
        self._replace((), instead=run, written=table)

    def _written(self, covers: RunRange, chunks: Iterable[Entries], count: int, rest: Rest) -> Run:
        directory, files = self._home.directory, self._home.files
        write_run(directory, covers, chunks, count=count, files=files, rest=rest)
        return Run(directory, covers, files=files, check=False)

    def _replace(
        self,
        gone: tuple[Run, ...],
        *,
        instead: Run | None = None,
        written: RecentTable | None = None,
    ) -> None:
        """Put one run in the place of others or of a table: on disk first, then in memory."""
        runs = self._older.runs.without(gone, instead=(instead,) if instead else ())
        self._covered = max(self._covered, written.settled_seq if written else 0)
        oldest = min((run.covers.first_seq for run in runs.runs), default=0)
        # Each of these set operations is one step of the interpreter: `void` may run beside them.
        checkpoint = Checkpoint(
            node=self._home.node,
            window_us=self._home.window_us,
            seq=self._covered,
            key=(int(self.key[0]), int(self.key[1])),
            runs=tuple(run.covers for run in runs.runs),
            voids=frozenset(self._voids),
        )
        write_checkpoint(self._home.directory, checkpoint, files=self._home.files)
        with self._swap:
            frozen = tuple(table for table in self._older.frozen if table is not written)
            self._older = _Older(frozen, runs)
        self._voids.difference_update([seq for seq in self._voids.copy() if seq < oldest])
        for run in gone:
            self._home.files.unlink(self._home.directory / run.covers.name)

    def close(self) -> None:
        """Stop the background thread. What is not in a run is read from the log next time."""
        if self._background is not None:
            with self._pacing.hurried():
                self._background.stop()


def _entries(identities: Identities, seq: I64) -> Entries:
    return Entries(Keys(identities.low, identities.high), identities.content, seq)
