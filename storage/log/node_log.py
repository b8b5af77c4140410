"""The writing side of a node's log: append, sync, roll."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import polars as pl
import pyarrow as pa

from catalog.clock import Clock, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.ports import Appended, LogUnavailable
from storage.log.files import Files, Lock, OsFiles
from storage.log.frames import SCHEMA_MESSAGE, LogCorrupt, Stored
from storage.log.home import Home, LogLimits
from storage.log.hot import HotFile
from storage.log.layout import INDEX_NAME, LOCK_NAME, MARK_NAME, hot_name, read_layout
from storage.log.mark import Mark, MarkWriter
from storage.log.reader import NO_RECORDS, LogReader
from storage.log.recovery import Recovered, recover_hot

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_HEARTBEATS_ONLY = 1 << RecordKind.HEARTBEAT


class LogFull(LogUnavailable):
    """The disk is full. Nothing was written or lost; append again when there is space."""


class NodeLog:
    """One node's log, owned by this process until it ends. Implements RecordLog, RecordReader.

    Threads: ``append``, ``roll_if_due``, ``read``, ``read_after`` and ``close`` belong to one
    thread (the event loop). ``sync`` may run in another one beside ``append`` and ``read``, one
    ``sync`` at a time, and makes durable what was appended before it began; while it runs, do not
    call ``roll_if_due`` or ``close``. Readers see only what is durable.
    """

    def __init__(
        self, *, hot: HotFile, lock: Lock, mark: MarkWriter, home: Home, recovered: Recovered
    ) -> None:
        self._hot = hot
        self._lock = lock
        self._mark = mark
        self._home = home
        self._broken: str | None = None
        self._appended = self._durable = home.mark_of(hot)
        self.recovered = recovered
        self._reader = LogReader(
            home.directory, home.node, files=home.files, mark=lambda: self._durable
        )
        self._reader.adopt(hot)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        node: NodeId,
        clock: Clock,
        files: Files | None = None,
        limits: LogLimits | None = None,
    ) -> NodeLog:
        """Lock the log in ``directory``, recover it, and be ready to append.

        Raises:
            LogLocked: another process has it.
            LogCorrupt: something durable cannot be read back.
            LogTooNew: a newer release wrote it.
            LogUnavailable: the disk failed.
        """
        files = files or OsFiles()
        home = Home(directory, node, clock, files, limits or LogLimits())
        try:
            files.make_dir(directory)
            lock = files.lock(directory / LOCK_NAME)
            try:
                return cls._recover(home, lock)
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise LogUnavailable(f"cannot open the log in {directory}: {error}") from error

    @classmethod
    def _recover(cls, home: Home, lock: Lock) -> NodeLog:
        mark = MarkWriter(home.directory / MARK_NAME, files=home.files)
        layout = read_layout(home.directory, files=home.files)
        if not layout.hots:
            hot, recovered = home.create(layout.sealed_until + 1), Recovered()
        else:
            hot, recovered = recover_hot(
                home.directory,
                first_seq=layout.hots[-1],
                node=home.node,
                mark=mark.found,
                files=home.files,
            )
        home.last_received_at = hot.last_received_at or home.received_before(hot.first_seq, layout)
        if hot.next_seq <= mark.found.seq:
            reason = f"record {mark.found.seq} was durable, and the log ends before it"
            raise LogCorrupt(reason, file=str(hot.path), offset=hot.end)
        log = cls(hot=hot, lock=lock, mark=mark, home=home, recovered=recovered)
        mark.write(log._durable)
        if hot.header.schema != SCHEMA_MESSAGE and hot.next_seq > hot.first_seq:
            log.roll()  # another release of Polars spells the columns otherwise
        return log

    @property
    def node(self) -> NodeId:
        """The node that owns this log."""
        return self._home.node

    @property
    def directory(self) -> Path:
        """Where the log is."""
        return self._home.directory

    @property
    def index_directory(self) -> Path:
        """Where the identity index of this log belongs."""
        return self._home.directory / INDEX_NAME

    @property
    def next_seq(self) -> Seq:
        """The seq the next record will have."""
        return Seq(self._hot.next_seq)

    @property
    def last_received_at(self) -> Micros:
        """The ``received_at`` of the last record appended, 0 when there is none."""
        return Micros(self._home.last_received_at)

    @property
    def durable(self) -> Mark:
        """How far the log is durable."""
        return self._durable

    def append(self, records: pa.RecordBatch) -> Appended:
        """Write one frame; see :class:`ingest.ports.RecordLog`. No rows: nothing is written.

        Raises:
            LogFull: nothing was written, and the log goes on once there is space.
            LogUnavailable: the log is poisoned.
        """
        self._check()
        first_seq, received_at = self._hot.next_seq, self._home.next_received_at()
        if records.num_rows:
            try:
                self._hot.append(records, received_at=received_at, synced=self._durable.offset)
            except OSError as error:
                self._failed_write(error)
            self._home.last_received_at = received_at + records.num_rows - 1
            self._appended = self._home.mark_of(self._hot)
        return Appended(
            first_seq=Seq(first_seq), received_at=Micros(received_at), count=records.num_rows
        )

    def sync(self) -> None:
        """Make everything appended durable, then visible; see :class:`ingest.ports.RecordLog`."""
        self._check()
        mark = self._appended
        if mark == self._durable:
            return
        try:
            self._hot.sync()
        except OSError as error:
            self._poison(error)
        self._mark.write(mark)
        self._durable = mark

    def roll_if_due(self) -> bool:
        """Close the hot file and begin another when it is big or old enough. True if it did."""
        hot, limits = self._hot, self._home.limits
        if self._broken or hot.next_seq == hot.first_seq:
            return False
        idle = hot.kinds == _HEARTBEATS_ONLY
        age_us_max = limits.idle_age_us_max if idle else limits.hot_age_us_max
        age_us = self._home.clock.now_us() - hot.first_received_at
        if hot.end < limits.hot_bytes_max and age_us < age_us_max:
            return False
        try:
            self.roll()
        except LogFull:
            return False  # the old file still takes what fits
        return True

    def roll(self) -> None:
        """Close the hot file, which must hold a record, and begin another."""
        assert self._hot.next_seq > self._hot.first_seq, "an empty hot file cannot be closed"
        self.sync()
        first_seq = self._hot.next_seq
        try:
            hot = self._home.create(first_seq)
        except OSError as error:
            self._failed_create(error, first_seq)
        self._hot.close()
        self._hot = hot
        self._appended = self._durable = self._home.mark_of(hot)
        self._reader.adopt(hot)
        self._mark.write(self._durable)

    def read(self, seqs: Sequence[int]) -> pl.DataFrame:
        """RECORDS of ``seqs`` that are durable, ascending; see RecordReader."""
        self._check()
        wanted = pl.Series("seq", sorted(set(seqs)), dtype=pl.Int64)
        parts, at = [], 0
        try:
            while at < len(wanted) and wanted[at] <= self._durable.seq:
                block = self._reader.frame_of(wanted[at])
                parts.append(block.filter(pl.col("seq").is_in(wanted.implode())))
                at = int(wanted.search_sorted(block["seq"][-1], side="right"))
        except OSError as error:
            self._poison(error)
        return pl.concat(parts) if parts else NO_RECORDS

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """The durable RECORDS behind ``seq``, contiguous; none only when there are none."""
        self._check()
        try:
            return self._reader.read_after(seq, rows_max=rows_max)
        except OSError as error:
            self._poison(error)

    def stored_after(self, seq: int, *, rows_max: int) -> list[Stored]:
        """The durable records behind ``seq`` as they are stored; none only when there are none."""
        self._check()
        try:
            return self._reader.stored_after(seq, rows_max=rows_max)
        except OSError as error:
            self._poison(error)

    def seq_before(self, received_at: int) -> Seq:
        """A seq such that every later record of the log that is missed came before the instant.

        As coarse as segments: reading after it covers everything received from then on.
        """
        return self._home.seq_before(received_at)

    def _check(self) -> None:
        if self._broken is not None:
            raise LogUnavailable(self._broken)

    def _poison(self, error: OSError) -> NoReturn:
        """From here on nothing is acknowledged: what the disk holds is unknown until recovery."""
        self._broken = f"the log of {self.node} failed: {error}"
        raise LogUnavailable(self._broken) from error

    def _failed_write(self, error: OSError) -> NoReturn:
        if error.errno not in _NO_SPACE:
            self._poison(error)
        try:
            self._hot.cut()
        except OSError as second:
            self._poison(second)
        raise LogFull(f"the disk of {self.node} is full") from error

    def _failed_create(self, error: OSError, first_seq: int) -> NoReturn:
        if error.errno not in _NO_SPACE:
            self._poison(error)
        name = hot_name(first_seq)
        try:
            if name in self._home.files.names(self.directory):
                self._home.files.unlink(self.directory / name)
                # Else a power cut may bring it back, behind records that were to follow it.
                self._home.files.fsync_dir(self.directory)
        except OSError as second:
            self._poison(second)
        raise LogFull(f"the disk of {self.node} is full") from error

    def close(self) -> None:
        """Release the log. What was appended and not synced stays unacknowledged."""
        self._broken = self._broken or "the log is closed"
        self._reader.close()
        self._hot.close()
        self._mark.close()
        self._lock.release()
