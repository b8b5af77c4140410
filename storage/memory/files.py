"""A disk that forgets: what ``storage.log.files`` promises, and not a bit more.

Content survives a power cut only once it was synced, a name only once its directory was; what was
not may be there or not, torn at 512 bytes, as the seed decides. Calls are counted, and any of them
can be made to fail, to write only in part, or to be the last before the power goes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import NoReturn

import pyarrow as pa

from storage.log.files import File, Lock, LogLocked, SharedBytes

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """The machine stopped in this call. Not an ``Exception``: no code survives it."""


class _Inode:
    """A file's content as programs see it, and as it is on the platter."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.synced = bytearray()
        self.dirty: set[int] = set()

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        self.seen.extend(bytes(max(0, end - len(self.seen))))
        self.seen[offset:end] = data
        self.dirty.update(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.seen.extend(bytes(size - len(self.seen)))

    def sync(self) -> None:
        # Only dirty sectors are written: what a failed sync forgot stays forgotten.
        self._store(self.dirty, len(self.seen))
        self.dirty.clear()

    def _store(self, sectors: set[int], size: int) -> None:
        del self.synced[size:]
        self.synced.extend(bytes(size - len(self.synced)))
        for sector in sectors:
            at = sector * SECTOR_BYTES
            self.synced[at : at + SECTOR_BYTES] = self.seen[at : at + SECTOR_BYTES]
        del self.synced[size:]

    def crash(self, random: Random) -> None:
        share = random.choice([0.0, 0.5, 1.0])
        kept = {sector for sector in sorted(self.dirty) if random.random() < share}
        sizes = [len(self.seen), len(self.synced)]
        self._store(kept, random.choice([*sizes, random.randint(min(sizes), max(sizes))]))
        self.seen = bytearray(self.synced)
        self.dirty.clear()


_Change = dict[Path, _Inode | None]
"""Names that change as one: what they stand for now, null for nothing."""


class SimFiles:
    """A simulated file system. Everything is decided by ``seed``.

    ``fail_at`` makes the n-th call from now raise ``error`` (a write may do a part first);
    ``cut_at`` makes it the one in which the power goes. After that, :meth:`restart`.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)  # noqa: S311 - faults must be reproducible
        self._names: dict[Path, _Inode] = {}
        self._synced_names: dict[Path, _Inode] = {}
        self._pending: list[_Change] = []
        self._locks: set[Path] = set()
        self._directories: set[Path] = set()
        self._off = False
        self.calls = 0
        self._fail_at: int | None = None
        self._cut_at: int | None = None
        self._error = errno.EIO

    # -- what a test does to it ------------------------------------------------------------

    def fail_at(self, call: int, error: int = errno.EIO) -> None:
        """Let the ``call``-th change from now (1: the next) fail with ``error``."""
        self._fail_at, self._error = self.calls + call, error

    def cut_at(self, call: int) -> None:
        """Let the power go in the ``call``-th change from now (1: the next)."""
        self._cut_at = self.calls + call

    def restart(self, *, power_cut: bool) -> None:
        """Come back after the process died, with or without the machine dying too."""
        if power_cut:
            self._lose_power()
        self._locks.clear()
        self._off, self._cut_at, self._fail_at = False, None, None

    def _lose_power(self) -> None:
        if self._random.random() < 0.5:  # a journal keeps the order of changes, others need not
            kept = self._pending[: self._random.randint(0, len(self._pending))]
        else:
            kept = [change for change in self._pending if self._random.random() < 0.5]
        self._apply(self._synced_names, *kept)
        self._pending.clear()
        self._names = dict(self._synced_names)
        for inode in {id(i): i for i in self._names.values()}.values():
            inode.crash(self._random)

    def read(self, path: Path) -> bytes:
        """The content of a file as programs see it."""
        return bytes(self._inode(path).seen)

    def overwrite(self, path: Path, content: bytes) -> None:
        """Change a file at rest, durably, behind everybody's back."""
        inode = self._inode(path)
        inode.seen, inode.synced = bytearray(content), bytearray(content)
        inode.dirty.clear()

    # -- faults ----------------------------------------------------------------------------

    def change(self, inode: _Inode | None = None, data: bytes = b"", offset: int = 0) -> None:
        """Count a call that changes something; fail it, after a part of the write, if asked."""
        if self._off:
            raise PowerCut
        self.calls += 1
        if self.calls not in {self._fail_at, self._cut_at}:
            return
        if inode is not None:
            inode.write(data[: self._random.randint(0, len(data))], offset)
        if self.calls == self._cut_at:
            self._off = True
            raise PowerCut
        self._raise()

    def store(self, inode: _Inode, data: bytes, offset: int) -> None:
        """Count a store into mapped memory: it can be the last call, and cannot fail."""
        if self.calls + 1 != self._fail_at:
            self.change(inode, data, offset)

    def sync(self, inode: _Inode) -> None:
        """Sync, or fail as Linux does: the pages are clean afterwards, and lost."""
        try:
            self.change()
        except OSError:
            inode.dirty.clear()
            raise
        inode.sync()

    def _raise(self) -> NoReturn:
        raise OSError(self._error, os.strerror(self._error))

    # -- Files -----------------------------------------------------------------------------

    def _inode(self, path: Path) -> _Inode:
        if self._off:
            raise PowerCut
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._names[path]

    @staticmethod
    def _apply(names: dict[Path, _Inode], *changes: _Change) -> None:
        for change in changes:
            for path, inode in change.items():
                if inode is None:
                    names.pop(path, None)
                else:
                    names[path] = inode

    def _set_names(self, change: _Change) -> None:
        self._apply(self._names, change)
        self._pending.append(change)

    def open(self, path: Path) -> File:
        """See :class:`storage.log.files.Files`."""
        return _SimFile(self, self._inode(path))

    def reopen(self, path: Path) -> File:
        """See :class:`storage.log.files.Files`."""
        return _SimFile(self, self._inode(path))

    def create(self, path: Path) -> File:
        """See :class:`storage.log.files.Files`."""
        self.change()
        if path in self._names:
            raise FileExistsError(errno.EEXIST, "file exists", str(path))
        inode = _Inode()
        self._set_names({path: inode})
        return _SimFile(self, inode)

    def names(self, directory: Path) -> list[str]:
        """See :class:`storage.log.files.Files`."""
        if self._off:
            raise PowerCut
        return [path.name for path in self._names if path.parent == directory]

    def rename(self, source: Path, target: Path) -> None:
        """See :class:`storage.log.files.Files`."""
        self.change()
        self._set_names({target: self._inode(source), source: None})

    def unlink(self, path: Path) -> None:
        """See :class:`storage.log.files.Files`."""
        self.change()
        self._inode(path)
        self._set_names({path: None})

    def make_dir(self, directory: Path) -> None:
        """See :class:`storage.log.files.Files`. Directories need no names of their own here."""
        self._directories.add(directory)

    def fsync_dir(self, directory: Path) -> None:
        """See :class:`storage.log.files.Files`."""
        self.change()
        here = [change for change in self._pending if next(iter(change)).parent == directory]
        self._apply(self._synced_names, *here)
        self._pending = [change for change in self._pending if change not in here]

    def lock(self, path: Path) -> Lock:
        """See :class:`storage.log.files.Files`."""
        if path in self._locks:
            raise LogLocked(f"{path} is held by another process")
        self._locks.add(path)
        return _SimLock(self._locks, path)

    def share(self, path: Path, size: int, *, create: bool) -> SharedBytes:
        """See :class:`storage.log.files.Files`."""
        if create and (path not in self._names or len(self._names[path].seen) < size):
            self.change()
            inode = self._names.get(path) or _Inode()
            inode.truncate(size)
            inode.synced = bytearray(inode.seen)
            self._names[path] = self._synced_names[path] = inode
        if len(self._inode(path).seen) < size:
            raise FileNotFoundError(errno.ENOENT, "too short", str(path))
        return _SimShared(self, self._inode(path))

    def view(self, path: Path) -> memoryview:
        """See :class:`storage.log.files.Files`."""
        return memoryview(bytes(self._inode(path).seen))

    def columnar(self, path: Path) -> Path | BytesIO:
        """See :class:`storage.log.files.Files`."""
        return BytesIO(self._inode(path).seen)


class _SimFile:
    def __init__(self, disk: SimFiles, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def write_at(self, parts: Sequence[bytes | pa.Buffer], offset: int) -> None:
        data = b"".join(parts)
        self._disk.change(self._inode, data, offset)
        self._inode.write(data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self._inode.seen[offset : offset + size])

    def size(self) -> int:
        return len(self._inode.seen)

    def truncate(self, size: int) -> None:
        self._disk.change()
        self._inode.truncate(size)

    def fdatasync(self) -> None:
        self._disk.sync(self._inode)

    def close(self) -> None:
        pass


class _SimShared:
    def __init__(self, disk: SimFiles, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def read(self) -> bytes:
        return bytes(self._inode.seen)

    def write(self, data: bytes, offset: int) -> None:
        self._disk.store(self._inode, data, offset)
        self._inode.write(data, offset)

    def close(self) -> None:
        pass


class _SimLock:
    def __init__(self, locks: set[Path], path: Path) -> None:
        self._locks = locks
        self._path = path

    def release(self) -> None:
        self._locks.discard(self._path)
