"""A disk whose power can be cut: nested ext4 images, and what they hold at an instant.

``disk`` is an ext4 in the file ``inner.img``, which lies in an ext4 in ``outer.img``, which lies in
an ext4 that can be frozen. While it is frozen, ``outer.img`` is copied: nothing of what the inner
file system wrote is in there unless it was flushed, or happened to be written back. So the copy
is a disk after a power cut that took its volatile cache along, at one instant of its life,
also in the middle of an fdatasync. Needs root and loop mounts; no device mapper.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FREEZE, _THAW = 0xC0045877, 0xC0045878  # linux/fs.h: FIFREEZE, FITHAW
DISK_MIB = 40
ORDERED = "loop,noatime"
"""As ext4 comes: data is on disk before the length that covers it."""
WRITEBACK = "loop,noatime,data=writeback,nodelalloc"
"""The length may be on disk long before the data: tails of zeros and of parts."""
_LEVELS = (("bottom", 40), ("outer", 20), ("inner", 0))  # MiB more than the disk


class NoPower(Exception):
    """Images cannot be mounted here; the message says why."""


@cache
def why_not() -> str | None:
    """Why power cannot be cut here, or None."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    missing = [name for name in ("mkfs.ext4", "mount", "umount", "cp") if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        with powered():
            return None
    except NoPower as reason:
        return str(reason)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise NoPower(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@contextlib.contextmanager
def _mounted(where: Path, *arguments: str | Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    _run("mount", *arguments, where)
    try:
        yield where
    finally:
        # Lazily: what a failed test left open there must not keep the image.
        subprocess.run(["umount", "-l", where], check=False, capture_output=True, timeout=60)


@contextlib.contextmanager
def _images(base: Path, inner: str) -> Iterator[Path]:
    """Make and mount every level, each in the one before; answers where the innermost is."""
    with contextlib.ExitStack() as stack:
        at = base
        for name, more_mib in _LEVELS:
            image = at / f"{name}.img"
            with image.open("wb") as file:
                file.truncate((DISK_MIB + more_mib) << 20)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", image)
            options = inner if name == "inner" else ORDERED
            at = stack.enter_context(_mounted(base / name, "-o", options, image))
        yield at


class Powered:
    """A disk that runs. ``disk`` is where its files are."""

    def __init__(self, base: Path, disk: Path) -> None:
        self._base = base
        self.disk = disk

    def cut(self) -> Path:
        """Copy what the disk would hold if its power failed now; the disk itself runs on."""
        bottom = os.open(self._base / "bottom", os.O_RDONLY)
        copy = self._base / "cut.img"
        copy.unlink(missing_ok=True)
        try:
            fcntl.ioctl(bottom, _FREEZE, 0)
            try:
                _run("cp", "--sparse=always", self._base / "bottom" / "outer.img", copy)
            finally:
                fcntl.ioctl(bottom, _THAW, 0)
        finally:
            os.close(bottom)
        return copy

    @contextlib.contextmanager
    def after(self, copy: Path) -> Iterator[Path]:
        """The files of a copy, after the journals were replayed."""
        with (
            _mounted(self._base / "cut-outer", "-o", ORDERED, copy) as outer,
            _mounted(self._base / "cut", "-o", ORDERED, outer / "inner.img") as found,
        ):
            yield found


@contextlib.contextmanager
def powered(options: str = ORDERED) -> Iterator[Powered]:
    """A disk of its own, mounted with ``options``, unmounted and removed at the end.

    Raises:
        NoPower: images cannot be mounted here.
    """
    base = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    try:
        with (
            _mounted(base, "-t", "tmpfs", "-o", "size=400m", "tmpfs"),
            _images(base, options) as disk,
        ):
            yield Powered(base, disk)
    finally:
        base.rmdir()
