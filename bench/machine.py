"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
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
