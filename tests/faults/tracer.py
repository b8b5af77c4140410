"""Faults at the Nth system call of a running process, by strace."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.e2e.harness import wait_for


@cache
def why_not() -> str | None:
    """Why nothing can be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-o", os.devnull, "true"], capture_output=True, timeout=20, check=False
    )
    return None if done.returncode == 0 else "ptrace is not allowed"


class Trace:
    """What strace wrote about a process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def text(self) -> str:
        """All of it."""
        return self._path.read_text(errors="replace") if self._path.exists() else ""

    def injected(self) -> int:
        """How many calls were tampered with."""
        return len(re.findall(r"\(INJECTED\)|\(DELAYED\)|killed by SIGKILL", self.text()))


@contextlib.contextmanager
def traced(
    pid: int, *, calls: str, inject: str = "", on: Path | None = None, log: Path
) -> Iterator[Trace]:
    """Attach to a process that was started stopped, let it go on, and detach at the end.

    Args:
        pid: it is held by SIGSTOP.
        calls: which system calls to write down, by commas.
        inject: what goes wrong with one of them, as strace's ``inject=`` takes it. Each thread
            counts its own calls.
        on: only calls on this file or directory count.
        log: what strace writes, one line a call.
    """
    command = ["strace", "-f", "-qq", "-y", "-p", str(pid), "-o", str(log), "-e", f"trace={calls}"]
    if inject:
        command += ["-e", f"inject={inject}"]
    if on is not None:
        command += ["-P", str(on)]
    status = Path(f"/proc/{pid}/status")
    # It stops itself: a SIGCONT before that would be lost.
    wait_for(lambda: "State:\tT" in status.read_text(), what="stopped", within_s=20)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(
                lambda: process.poll() is not None or "TracerPid:\t0" not in status.read_text(),
                what="attached",
                within_s=20,
            )
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(process.stderr.read())
            os.kill(pid, signal.SIGCONT)
            yield Trace(log)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
