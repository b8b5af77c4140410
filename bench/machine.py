"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from pathlib import Path

import psutil

from bench.gate import BenchFailed
from bench.processes import REPOSITORY

_MEMORY_ONLY = frozenset({"tmpfs", "ramfs"})


def commit() -> str:
    """The commit that is checked out, marked when files differ from it."""
    return _git("describe", "--always", "--abbrev=10", "--dirty", "--exclude=*")


def _git(*args: str) -> str:
    done = subprocess.run(
        ["git", *args], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """The processor's name and how many cores there are."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def file_system(path: Path) -> str:
    """The type of the file system a path is on."""
    best = max(
        (
            p
            for p in psutil.disk_partitions(all=True)
            if path.resolve().is_relative_to(p.mountpoint)
        ),
        key=lambda p: len(p.mountpoint),
    )
    return str(best.fstype)


def require_disk(path: Path) -> None:
    """Refuse to measure durability in memory.

    Raises:
        BenchFailed: the path is on tmpfs.
    """
    if (kind := file_system(path)) in _MEMORY_ONLY:
        raise BenchFailed(f"{path} is on {kind}: an fsync there is free; name a disk by --scratch")


def machine(scratch: Path) -> dict[str, str]:
    """The machine, for the head of the results."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return {
        "processor": processor(),
        "memory": f"{memory_gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {file_system(scratch)}",
        "python": platform.python_version(),
    }


class Neighbours:
    """How much of the machine others used meanwhile: a figure beside busy neighbours is a guess.

    What this process and its ended children used is ours; so ask when the children have ended.
    """

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._busy_s = _busy_s()
        self._ours_s = _ours_s()

    def cores(self) -> float:
        """The cores others kept busy since, on average; time stolen by the hypervisor included."""
        others_s = (_busy_s() - self._busy_s) - (_ours_s() - self._ours_s)
        return max(0.0, others_s / (time.monotonic() - self._began_s))


def _busy_s() -> float:
    times = psutil.cpu_times()
    # user holds guest already, and waiting for a disk is idling.
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _ours_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
