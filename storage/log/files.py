"""The disk, as the log sees it: a port small enough to be simulated call by call.

``OsFiles`` is the real one; ``storage.memory.files.SimFiles`` forgets what was not synced.
Every method may raise ``OSError``; nothing here retries.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from catalog.errors import DomainError

ZEROS = bytes(4096)


class LogLocked(DomainError):
    """Another process owns this log directory."""

    code = "log_locked"


class File(Protocol):
    """One open file. Offsets and sizes are bytes."""

    def write_at(self, parts: Sequence[bytes | pa.Buffer], offset: int) -> None:
        """Write all of ``parts``, one behind the other; after an error any of it may be there."""
        ...

    def pread(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the end of the file."""
        ...

    def size(self) -> int:
        """The length of the file as it is now."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to ``size``."""
        ...

    def fdatasync(self) -> None:
        """Make content and length durable. Never call it again on this file after an error."""
        ...

    def close(self) -> None:
        """Give the descriptor back; syncs nothing."""
        ...


class SharedBytes(Protocol):
    """A few bytes of a file that several processes see at once. Not durable by itself."""

    def read(self) -> bytes:
        """All of it; may be torn by a write under way."""
        ...

    def write(self, data: bytes, offset: int) -> None:
        """Change a part of it."""
        ...

    def close(self) -> None:
        """Unmap it."""
        ...


class Lock(Protocol):
    """An exclusive lock that ends with the process that holds it."""

    def release(self) -> None:
        """Let the next one have it."""
        ...


class Files(Protocol):
    """What the log asks of a file system."""

    def open(self, path: Path) -> File:
        """Open for reading. Raises ``FileNotFoundError``."""
        ...

    def reopen(self, path: Path) -> File:
        """Open for reading and writing. Raises ``FileNotFoundError``."""
        ...

    def create(self, path: Path) -> File:
        """Create for reading and writing. Raises ``FileExistsError``."""
        ...

    def names(self, directory: Path) -> list[str]:
        """The names in ``directory``, in no order; none when it does not exist."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` by ``source``; durable after :meth:`fsync_dir`."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name; durable after :meth:`fsync_dir`."""
        ...

    def make_dir(self, directory: Path) -> None:
        """Create ``directory`` and its parents where missing, durably."""
        ...

    def fsync_dir(self, directory: Path) -> None:
        """Make the names in ``directory`` durable."""
        ...

    def lock(self, path: Path) -> Lock:
        """Take the lock named ``path`` without waiting. Raises :class:`LogLocked`."""
        ...

    def share(self, path: Path, size: int, *, create: bool) -> SharedBytes:
        """Map ``path``; with ``create``, make it ``size`` zeros first where it is missing.

        Raises ``FileNotFoundError`` when it is missing (or still too short) without ``create``.
        """
        ...

    def view(self, path: Path) -> memoryview:
        """The whole of an immutable file, mapped. Stays valid after an unlink."""
        ...

    def columnar(self, path: Path) -> Path | BytesIO:
        """What a Parquet reader is given to open an immutable file."""
        ...


class OsFile:
    """A descriptor of the operating system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o640)

    def write_at(self, parts: Sequence[bytes | pa.Buffer], offset: int) -> None:
        """See :class:`File`."""
        size = sum(map(len, parts))
        written = os.pwritev(self._fd, parts, offset)
        if written < size:  # a signal, more than 2 GiB, or the disk just became full
            rest = memoryview(b"".join(parts))
            while written < size:
                written += os.pwrite(self._fd, rest[written:], offset + written)

    def pread(self, size: int, offset: int) -> bytes:
        """See :class:`File`."""
        data = os.pread(self._fd, size, offset)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def size(self) -> int:
        """See :class:`File`."""
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        """See :class:`File`."""
        os.ftruncate(self._fd, size)

    def fdatasync(self) -> None:
        """See :class:`File`."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """See :class:`File`."""
        os.close(self._fd)


class OsSharedBytes:
    """A shared mapping."""

    def __init__(self, path: Path, size: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def read(self) -> bytes:
        """See :class:`SharedBytes`."""
        return self._map[:]

    def write(self, data: bytes, offset: int) -> None:
        """See :class:`SharedBytes`."""
        self._map[offset : offset + len(data)] = data

    def close(self) -> None:
        """See :class:`SharedBytes`."""
        self._map.close()


class OsLock:
    """A ``flock``: the kernel drops it when the last descriptor dies, whatever killed us."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise LogLocked(f"{path} is held by another process") from error

    def release(self) -> None:
        """See :class:`Lock`."""
        os.close(self._fd)


class OsFiles:
    """The real file system."""

    def open(self, path: Path) -> File:
        """See :class:`Files`."""
        return OsFile(path, os.O_RDONLY)

    def reopen(self, path: Path) -> File:
        """See :class:`Files`."""
        return OsFile(path, os.O_RDWR)

    def create(self, path: Path) -> File:
        """See :class:`Files`."""
        return OsFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def names(self, directory: Path) -> list[str]:
        """See :class:`Files`."""
        try:
            return [path.name for path in directory.iterdir()]
        except FileNotFoundError:
            return []

    def rename(self, source: Path, target: Path) -> None:
        """See :class:`Files`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """See :class:`Files`."""
        path.unlink()

    def make_dir(self, directory: Path) -> None:
        """See :class:`Files`."""
        if directory.is_dir():
            return
        self.make_dir(directory.parent)
        directory.mkdir(exist_ok=True)
        self.fsync_dir(directory.parent)

    def fsync_dir(self, directory: Path) -> None:
        """See :class:`Files`."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> Lock:
        """See :class:`Files`."""
        return OsLock(path)

    def share(self, path: Path, size: int, *, create: bool) -> SharedBytes:
        """See :class:`Files`."""
        if create and not (path.exists() and path.stat().st_size >= size):
            self._make_zeros(path, size)
        if path.stat().st_size < size:
            raise FileNotFoundError(path)
        return OsSharedBytes(path, size)

    def _make_zeros(self, path: Path, size: int) -> None:
        # Real zeros, not a hole: storing into a hole of a full disk would be a SIGBUS.
        file = OsFile(path, os.O_RDWR | os.O_CREAT)
        try:
            file.write_at([ZEROS[:size]], 0)
            file.fdatasync()
        finally:
            file.close()
        self.fsync_dir(path.parent)

    def view(self, path: Path) -> memoryview:
        """See :class:`Files`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def columnar(self, path: Path) -> Path | BytesIO:
        """See :class:`Files`."""
        return path
