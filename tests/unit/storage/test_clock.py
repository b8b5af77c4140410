"""The clocks of a running service."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.clock import ClockBackwards, FileClock, SystemClock, open_clock


def test_every_process_sees_a_move_at_once(tmp_path: Path) -> None:
    """Two mappings of one file agree, before and after."""
    mover = FileClock.create(tmp_path / "clock", 1_700_000_000_000_000)
    watcher = FileClock(tmp_path / "clock")
    assert watcher.now_us() == 1_700_000_000_000_000

    mover.advance(1_700_000_000_000_001)

    assert watcher.now_us() == 1_700_000_000_000_001


def test_it_never_moves_back(tmp_path: Path) -> None:
    """Earlier is refused and changes nothing; the same instant is a harmless retry."""
    clock = FileClock.create(tmp_path / "clock", 50)
    with pytest.raises(ClockBackwards):
        clock.advance(49)
    assert clock.advance(50) == 50


def test_the_file_is_eight_bytes_little_endian(tmp_path: Path) -> None:
    """The format is fixed: a sandbox outlives the release that made it."""
    FileClock.create(tmp_path / "clock", 0x0102).advance(0x0103)

    assert (tmp_path / "clock").read_bytes() == b"\x03\x01" + bytes(6)


def test_the_kind_of_clock_follows_the_sandbox(tmp_path: Path) -> None:
    """No clock file is made by looking for one."""
    assert isinstance(open_clock(tmp_path, sandbox=False), SystemClock)
    with pytest.raises(FileNotFoundError):
        open_clock(tmp_path, sandbox=True)
