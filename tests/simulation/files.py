"""One disk and the processes on it: what each call may come to, as a seed decides.

:class:`storage.memory.files.SimFiles` forgets what was not synced (torn at 512 bytes, in any order,
names apart from files). Here calls fail as well, with a full disk or an I/O error after which the
next sync lies; a process or the power ends inside of a call; and bits flip at rest.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from storage.log.files import Lock
from storage.memory.files import SECTOR_BYTES, PowerCut, SimFiles

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Rates:
    """How likely a call of a process fails with an I/O error.

    One that changes something, one that syncs data (beside that), one that reads.
    """

    changing: float = 0.0
    syncing: float = 0.0
    reading: float = 0.0


class Disk(SimFiles):
    """The machine's disk. ``seen`` counts what became of what was not synced."""

    def __init__(self, chance: Random, seen: Counter[str]) -> None:
        super().__init__(chance.getrandbits(32))
        self.chance = chance
        self.seen = seen
        self.full = False
        self.calls_left: int | None = None

    def power_off(self) -> None:
        """From now on every call of every process is its last."""
        self._off = True

    @property
    def is_off(self) -> bool:
        """Whether the power is gone."""
        return self._off

    def passes(self) -> bool:
        """Count a call; false in the one where the power goes."""
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left <= 0:
                self.calls_left = None
                return False
        return True

    def flip(self, path: Path, bit: int) -> None:
        """Turn one bit of a file over, behind everybody's back."""
        content = bytearray(self.read(path))
        content[bit // 8] ^= 1 << bit % 8
        self.overwrite(path, bytes(content))

    def is_synced(self, path: Path) -> bool:
        """Whether the whole file would survive a power cut."""
        return not self._inode(path).dirty

    def _lose_power(self) -> None:
        names = set(self._names)
        unsynced = [
            (inode, bytes(inode.seen), sorted(inode.dirty))
            for inode in {id(i): i for i in self._names.values()}.values()
            if inode.dirty
        ]
        super()._lose_power()
        self.seen["directory entry lost"] += len(names - set(self._names))
        self.seen["unlink or rename undone"] += len(set(self._names) - names)
        for inode, content, sectors in unsynced:
            self._compare(bytes(inode.seen), content, sectors)

    def _compare(self, now: bytes, before: bytes, sectors: Sequence[int]) -> None:
        kept = [_sector(now, each) == _sector(before, each) for each in sectors]
        if not all(kept):
            self.seen["unsynced data dropped"] += 1
            if any(kept):
                self.seen["write torn at 512 bytes"] += 1
            if kept != sorted(kept, reverse=True):
                self.seen["later sector kept, earlier lost"] += 1


def _sector(content: bytes, number: int) -> bytes:
    return content[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]


class ProcessFiles:
    """The disk as one process has it, for one life. Implements ``storage.log.files.Files``."""

    def __init__(self, disk: Disk, rates: Rates) -> None:
        self.disk = disk
        self.rates = rates
        self.dead = False
        self.calls_left: int | None = None
        self._locks: list[Lock] = []

    def die(self) -> None:
        """The process is gone, and with it its locks. What it wrote stays in the page cache."""
        self.dead = True
        for lock in self._locks:
            lock.release()
        self._locks.clear()

    def alive(self) -> None:
        """Nothing is done for the dead."""
        if self.dead or self.disk.is_off:
            raise PowerCut

    def last_call(self) -> bool:
        """Whether the process, or the whole machine, ends in this call."""
        if not self.disk.passes():
            self.disk.power_off()
            return True
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left <= 0:
                self.die()
                return True
        return False

    def change(
        self,
        do: Callable[[], T],
        *,
        partly: Callable[[], object] = lambda: None,
        lied: Callable[[], object] = lambda: None,
        space: bool = False,
        rate: float | None = None,
    ) -> T:
        """Do a call that changes something, or a part of it, or fail it as ``lied`` says."""
        self.alive()
        chance, seen = self.disk.chance, self.disk.seen
        if self.calls_left is not None or self.disk.calls_left is not None:
            dying = self._partly_before_dying(do, partly)
            if dying:
                raise PowerCut
        if space and self.disk.full:
            partly()
            seen["ENOSPC"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rate = self.rates.changing if rate is None else rate
        if rate and chance.random() < rate:
            partly()
            lied()
            seen["EIO"] += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return do()

    def _partly_before_dying(self, do: Callable[[], object], partly: Callable[[], object]) -> bool:
        off, dead = self.disk.is_off, self.dead
        if not self.last_call():
            return False
        was_off, was_dead = self.disk._off, self.dead
        self.disk._off, self.dead = off, dead
        self.disk.chance.choice([do, partly, lambda: None])()
        self.disk._off, self.dead = was_off, was_dead
        return True

    def look(self) -> None:
        """Read something, or fail to."""
        self.alive()
        if self.rates.reading and self.disk.chance.random() < self.rates.reading:
            self.disk.seen["EIO while reading"] += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    # -- the port --------------------------------------------------------------------------

    def open(self, path: Path) -> ProcessFile:
        self.alive()
        return ProcessFile(self, self.disk.open(path))

    def reopen(self, path: Path) -> ProcessFile:
        self.alive()
        return ProcessFile(self, self.disk.reopen(path))

    def create(self, path: Path) -> ProcessFile:
        return ProcessFile(self, self.change(lambda: self.disk.create(path), space=True))

    def names(self, directory: Path) -> list[str]:
        self.alive()
        return self.disk.names(directory)

    def rename(self, source: Path, target: Path) -> None:
        self.change(lambda: self.disk.rename(source, target))

    def unlink(self, path: Path) -> None:
        self.change(lambda: self.disk.unlink(path))

    def make_dir(self, directory: Path) -> None:
        self.alive()
        self.disk.make_dir(directory)

    def fsync_dir(self, directory: Path) -> None:
        self.change(lambda: self.disk.fsync_dir(directory))

    def lock(self, path: Path) -> Lock:
        self.alive()
        lock = self.disk.lock(path)
        self._locks.append(lock)
        return lock

    def share(self, path: Path, size: int, *, create: bool) -> ProcessShared:
        self.alive()
        return ProcessShared(self, self.disk.share(path, size, create=create))

    def view(self, path: Path) -> memoryview:
        self.look()
        return self.disk.view(path)

    def columnar(self, path: Path) -> Path | BytesIO:
        self.look()
        return self.disk.columnar(path)


class ProcessFile:
    """An open file of one process."""

    def __init__(self, process: ProcessFiles, file: Any) -> None:
        self._process = process
        self._file = file

    def write_at(self, parts: Sequence[Any], offset: int) -> None:
        data = b"".join(parts)
        chance, inode = self._process.disk.chance, self._file._inode

        def partly() -> None:
            inode.write(data[: chance.randint(0, len(data))], offset)

        self._process.change(lambda: self._file.write_at([data], offset), partly=partly, space=True)

    def pread(self, size: int, offset: int) -> bytes:
        self._process.look()
        return self._file.pread(size, offset)

    def size(self) -> int:
        self._process.alive()
        return self._file.size()

    def truncate(self, size: int) -> None:
        self._process.change(lambda: self._file.truncate(size))

    def fdatasync(self) -> None:
        # After a failed sync the pages are clean: what was not written never will be, and the
        # next sync has nothing to complain about.
        rates, seen = self._process.rates, self._process.disk.seen

        def lied() -> None:
            seen["EIO while syncing"] += 1
            self._file._inode.dirty.clear()

        rate = max(rates.changing, rates.syncing)
        self._process.change(self._file.fdatasync, lied=lied, rate=rate)

    def close(self) -> None:
        pass


class ProcessShared:
    """A few mapped bytes. Storing cannot fail, but it can be the last thing done."""

    def __init__(self, process: ProcessFiles, shared: Any) -> None:
        self._process = process
        self._shared = shared

    def read(self) -> bytes:
        self._process.alive()
        return self._shared.read()

    def write(self, data: bytes, offset: int) -> None:
        self._process.alive()
        half = len(data) // 2
        dying = self._process.calls_left is not None or self._process.disk.calls_left is not None
        if dying and self._process._partly_before_dying(
            lambda: self._shared.write(data, offset),
            lambda: self._shared.write(data[:half], offset),
        ):
            raise PowerCut
        self._shared.write(data, offset)

    def close(self) -> None:
        pass
