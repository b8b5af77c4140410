"""Reading a log that another process writes, rolls and seals."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from storage.log.files import OsFiles
from storage.log.frames import LogCorrupt
from storage.log.home import LogLimits
from storage.log.mark import MARK_BYTES, Mark, MarkReader, MarkWriter
from storage.memory.files import SimFiles
from tests.log_samples import HOME, events, everything, follow, ids, open_log, put


def test_a_follower_may_come_before_the_log(tmp_path: Path) -> None:
    """The worker starts with the gateways, not after them."""
    follower = follow(tmp_path / "n1")
    assert follower.durable().seq == 0
    assert everything(follower).height == 0
    put(open_log(tmp_path / "n1"), events(2))
    assert follower.durable().seq == 2
    assert ids(everything(follower)) == ["request-0", "request-1"]


def test_steps_of_any_size_give_the_same_records(tmp_path: Path) -> None:
    """Steps are contiguous, never longer than asked, over every kind of file."""
    log = open_log(tmp_path)
    for number in range(12):
        put(log, events(5, start=5 * number))
        if number in {3, 7}:
            log.roll()
        if number == 5:
            follow(tmp_path).seal_closed()
    whole = everything(log)
    for rows_max in (1, 2, 5, 7, 60, 1_000):
        follower = follow(tmp_path)
        assert follower.read_after(17, rows_max=rows_max).height <= rows_max
        assert everything(follower, rows_max=rows_max).equals(whole)


def test_following_survives_sealing_at_any_moment(tmp_path: Path) -> None:
    """A hot file may vanish between two reads, or be rolled under the reader."""
    log, sealer = open_log(tmp_path), follow(tmp_path)
    follower, seen = follow(tmp_path), []
    for number in range(30):
        put(log, events(4, start=4 * number))
        if number % 3 == 0:
            log.roll()
        if number % 4 == 0:
            sealer.seal_closed()
        step = follower.read_after(len(seen), rows_max=3)
        assert step["seq"][0] == len(seen) + 1
        seen += ids(step)
    while (step := follower.read_after(len(seen), rows_max=9)).height:
        seen += ids(step)
    assert seen == [f"request-{i}" for i in range(120)]


def test_following_reads_every_byte_once(tmp_path: Path) -> None:
    """Reading the tail does not mean reading the file: what it costs is what is new."""
    read = []

    class Counting(OsFiles):
        def open(self, path: Path):
            file = super().open(path)
            pread = file.pread
            file.pread = lambda size, offset: read.append(len(d := pread(size, offset))) or d
            return file

    log = open_log(tmp_path)
    put(log, *(events(50, start=50 * i) for i in range(20)))
    follower = follow(tmp_path, files=Counting())
    seen = everything(follower, rows_max=100).height
    read.clear()
    put(log, events(1))
    assert follower.read_after(seen, rows_max=100).height == 1
    assert sum(read) < 4_000


def test_an_idle_poll_touches_no_file(tmp_path: Path) -> None:
    """Five-millisecond polls are free when nothing is new."""
    put(open_log(tmp_path), events(1))
    follower = follow(tmp_path)
    seen = everything(follower).height
    for name in tmp_path.iterdir():
        name.unlink()
    assert follower.read_after(seen, rows_max=10).height == 0


def test_damage_met_while_following_is_named() -> None:
    """Nothing of a damaged frame is handed out."""
    files = SimFiles()
    put(open_log(files=files), events(2), events(2, start=2))
    path = HOME / "hot-00000000000000000001.log"
    content = bytearray(files.read(path))
    content[-20] ^= 4
    files.overwrite(path, bytes(content))
    follower = follow(files=files)
    with pytest.raises(LogCorrupt) as caught:
        follower.read_after(0, rows_max=10)
    assert caught.value.file == str(path)


def test_another_process_sees_all_of_it_in_order(tmp_path: Path) -> None:
    """A real writer in a real process, rolling fast, with a sealer beside the reader."""
    writer = multiprocessing.get_context("spawn").Process(
        target=_write, args=(tmp_path, 200), daemon=True
    )
    writer.start()
    follower, sealer, seen = follow(tmp_path), follow(tmp_path), 0
    while seen < 2_000:
        step = follower.read_after(seen, rows_max=333)
        if step.height:
            assert step["seq"].to_list() == list(range(seen + 1, seen + step.height + 1))
            assert ids(step)[0] == f"request-{seen}"
            seen += step.height
            sealer.seal_closed()
    writer.join(30)
    assert writer.exitcode == 0
    assert len(sealer.segments()) > 1


def _write(directory: Path, groups: int) -> None:
    log = open_log(directory, limits=LogLimits(hot_bytes_max=50_000))
    for number in range(groups):
        put(log, events(10, start=10 * number))
        log.roll_if_due()
    log.close()


def test_a_torn_mark_is_never_believed() -> None:
    """Whatever part of a write has happened, the reader has this mark or the one before."""
    files, path = SimFiles(), HOME / "durable"
    writer = MarkWriter(path, files=files)
    marks = [Mark(1, 100 * i, i, 1_000 + i) for i in range(1, 5)]
    before = files.read(path)
    for number, mark in enumerate(marks):
        writer.write(mark)
        after = files.read(path)
        for size in range(MARK_BYTES + 1):
            files.overwrite(path, after[:size] + before[size:])
            expected = {mark, marks[number - 1] if number else Mark(0, 0, 0, 0)}
            assert MarkReader(path, files=files).read() in expected
        files.overwrite(path, after)
        before = after
    assert MarkReader(path, files=files).read() == marks[-1]
    assert MarkWriter(path, files=files).found == marks[-1]
