"""The clocks of a running service: the machine's, and a sandbox's shared file."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

from catalog.clock import Clock, Micros, to_rfc3339
from catalog.errors import Conflict

_INT64 = struct.Struct("<q")


class ClockBackwards(Conflict):
    """A sandbox clock was told to move to where it is or before."""

    code = "clock_backwards"


class SystemClock:
    """The machine's clock. It may step: the log enforces order by itself."""

    def now_us(self) -> Micros:
        """Now, in whole microseconds."""
        return Micros(time.time_ns() // 1_000)


class FileClock:
    """A clock that stands still until someone moves it, shared by every process of a sandbox.

    The file is 8 bytes, little-endian int64 microseconds, mapped: reading costs no system call,
    and an aligned 8-byte copy is never seen half written.
    """

    def __init__(self, path: Path) -> None:
        """Map an existing clock file.

        Raises:
            FileNotFoundError: the directory is no sandbox.
        """
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _INT64.size)
        self._view = memoryview(self._map).cast("q")

    @staticmethod
    def create(path: Path, now_us: int) -> FileClock:
        """Make the file, durably, standing at ``now_us``. Whole or not there at all."""
        unfinished = path.with_name(path.name + ".new")
        with unfinished.open("wb") as file:
            file.write(_INT64.pack(now_us))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return FileClock(path)

    def now_us(self) -> Micros:
        """Where the sandbox stands."""
        return Micros(self._view[0])

    def advance(self, now_us: int) -> Micros:
        """Move forwards to ``now_us``, for every process at once. Durable on return.

        Setting the instant it stands at is allowed and does nothing, so a retry is harmless.

        Raises:
            ClockBackwards: ``now_us`` is earlier than where it stands.
        """
        standing = self.now_us()
        if now_us < standing:
            raise ClockBackwards(
                f"the clock stands at {to_rfc3339(standing)} and only moves forwards"
            )
        self._view[0] = now_us
        self._map.flush()
        return Micros(now_us)


def open_clock(data: Path, *, sandbox: bool) -> Clock:
    """The clock of the service that runs on ``data``."""
    return FileClock(data / "clock") if sandbox else SystemClock()
