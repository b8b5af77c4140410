"""Servers under test: started on one core, paused while the other side is measured, ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from bench.gate import BenchFailed

REPOSITORY = Path(__file__).parents[1]
BACKLOG = 4_096
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def pinned(core: int) -> Callable[[], None]:
    """What a child runs before its program: on one core, and gone when its parent is."""

    def before_exec() -> None:
        os.sched_setaffinity(0, {core})
        die_with_parent()

    return before_exec


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; run between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def listen() -> socket.socket:
    """A listening socket on a free port of this machine, to be inherited by a server."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener


class Process:
    """A child of the benchmark. Used with ``with``: it is killed at the end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                argv,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                preexec_fn=pinned(core),
            )
        self.view = psutil.Process(self.popen.pid)

    def pause(self) -> None:
        """Take it, and what it has started, off their core as they are."""
        for process in self._family():
            process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in self._family():
            process.resume()

    def cpu_s(self) -> float:
        """Processor time used so far, all threads, and by what it has started."""
        used = [process.cpu_times() for process in self._family()]
        return float(sum(times.user + times.system for times in used))

    def rss_bytes(self) -> int:
        """Resident memory now, and of what it has started."""
        return int(sum(process.memory_info().rss for process in self._family()))

    def own_bytes(self) -> int:
        """The same without mapped files, whose pages are the kernel's to drop."""
        found = [process.memory_info() for process in self._family()]
        return int(sum(memory.rss - memory.shared for memory in found))

    def stop(self, *, within_s: float = 30) -> None:
        """End it like an operator would.

        Raises:
            BenchFailed: it did not end in order.
        """
        self.resume()
        self.popen.terminate()
        try:
            code = self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"it did not stop:\n{self.log_tail()}") from None
        if code:
            raise BenchFailed(f"it ended with {code}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-3_000:]

    def wait_until(self, happened: Callable[[], bool], *, what: str, within_s: float = 60) -> None:
        """Poll while it runs.

        Raises:
            BenchFailed: it ended, or took too long.
        """
        deadline_s = time.monotonic() + within_s
        while not happened():
            if self.popen.poll() is not None or time.monotonic() > deadline_s:
                raise BenchFailed(f"not {what}:\n{self.log_tail()}")
            time.sleep(0.02)

    def _family(self) -> list[psutil.Process]:
        return [self.view, *self.view.children(recursive=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


@contextlib.contextmanager
def only(active: Process, *others: Process) -> Iterator[None]:
    """While ``active`` is measured, nobody else of the pair has a core."""
    for other in others:
        other.pause()
    active.resume()
    time.sleep(0.05)  # timers that are due after a pause
    try:
        yield
    finally:
        for other in others:
            other.resume()


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process, threads it starts included, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python(*args: str) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *args]
