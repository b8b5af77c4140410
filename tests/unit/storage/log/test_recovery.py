"""Torn tails are cut, damage is named: every byte and every bit of small files."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ingest.batch import to_records
from storage.log.frames import LogCorrupt, LogTooNew
from storage.log.layout import MARK_NAME
from storage.memory.files import SimFiles
from tests.log_samples import HOME, events, everything, follow, ids, open_log, put

HOT = HOME / "hot-00000000000000000001.log"


def written(*, unsynced: int = 0, groups: int = 4) -> tuple[SimFiles, list[int]]:
    """A disk with a log of some groups, the last ``unsynced`` of them in one lost sync.

    Also the file's length before each group and at its end.
    """
    files = SimFiles()
    log = open_log(files=files)
    ends = [len(files.read(HOT))]
    for number in range(groups):
        log.append(to_records(events(2, start=2 * number)))
        if number < groups - unsynced:
            log.sync()
        ends.append(len(files.read(HOT)))
    files.restart(power_cut=False)
    return files, ends


def whole_frames(ends: list[int], size: int) -> int:
    """How many groups lie within the first ``size`` bytes."""
    return sum(end <= size for end in ends[1:])


def numbered(groups: int) -> list[str]:
    """The ids of the first ``groups`` groups."""
    return [f"request-{i}" for i in range(2 * groups)]


def disk(content: bytes, mark: bytes = bytes(128)) -> SimFiles:
    """A disk with one hot file and these marks."""
    files = SimFiles()
    for path, found in ((HOT, content), (HOME / MARK_NAME, mark)):
        files.create(path)
        files.overwrite(path, found)
    files.fsync_dir(HOME)
    return files


def recovered_ids(files: SimFiles) -> list[str]:
    """The events a restarted node has."""
    found = ids(everything(open_log(files=files)))
    files.restart(power_cut=False)
    return found


def check_it_goes_on(files: SimFiles, found: list[str]) -> None:
    """A recovered node appends behind what it found, and a power cut takes none of it."""
    put(log := open_log(files=files), events(1, start=99))
    follower = follow(files=files)
    assert ids(everything(follower)) == [*found, "request-99"]
    log.roll()
    assert len(follower.seal_closed()) == 1
    files.restart(power_cut=True)
    assert recovered_ids(files) == [*found, "request-99"]


@pytest.mark.parametrize("tail", [b"", bytes(700), b"\xff" * 700, b"FRAM" * 100])
def test_cut_anywhere_the_longest_valid_prefix_is_kept(tail: bytes) -> None:
    """The last three groups waited for one sync: cut at every byte, with zeros or junk behind."""
    files, ends = written(unsynced=3)
    content, mark = files.read(HOT), files.read(HOME / MARK_NAME)
    for size in range(ends[1], ends[4] + 1, 7 if tail else 1):
        found = content[:size] + tail
        files = disk(found, mark)
        kept = sum(found[:end] == content[:end] for end in ends[1:])
        assert recovered_ids(files) == numbered(kept)
        if size % 41 == 0:
            check_it_goes_on(files, numbered(kept))


def test_cut_anywhere_without_marks_the_longest_valid_prefix_is_kept() -> None:
    """After a power cut the marks may be from any time, or blank."""
    files, ends = written()
    content = files.read(HOT)
    for size in range(ends[1], ends[4] + 1, 3):
        files = disk(content[:size])
        kept = whole_frames(ends, size)
        assert recovered_ids(files) == numbered(kept)
        if size % 41 == 0:
            check_it_goes_on(files, numbered(kept))


def test_what_the_marks_vouch_for_is_never_cut() -> None:
    """A file shorter than what was acknowledged is a loss to be told, not a tail."""
    files, ends = written()
    content = files.read(HOT)
    for size in range(ends[1], ends[4], 11):
        files.overwrite(HOT, content[:size])
        with pytest.raises(LogCorrupt) as caught:
            open_log(files=files)
        assert caught.value.file == str(HOT)
        assert caught.value.offset == ends[whole_frames(ends, size)]
        assert files.read(HOT) == content[:size]
        files.restart(power_cut=False)


def test_frames_of_one_lost_sync_may_be_lost_out_of_order() -> None:
    """The disk wrote the third group and not the second: both go, neither was acknowledged."""
    files, ends = written(unsynced=3)
    content = bytearray(files.read(HOT))
    content[ends[1] : ends[2]] = bytes(ends[2] - ends[1])
    files.overwrite(HOT, bytes(content))
    assert recovered_ids(files) == ["request-0", "request-1"]


def test_every_flipped_bit_of_a_hot_file_is_detected() -> None:
    """Opening refuses, names the frame, and leaves the file as it is."""
    files, ends = written(groups=2)
    content = files.read(HOT)
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        files.overwrite(HOT, bytes(damaged))
        with pytest.raises((LogCorrupt, LogTooNew)) as caught:
            open_log(files=files)
        assert files.read(HOT) == damaged
        if isinstance(caught.value, LogCorrupt):
            frame = sum(end <= bit // 8 for end in ends)
            assert caught.value.offset == (ends[frame - 1] if frame else 0)
        files.restart(power_cut=False)


def test_damage_before_a_synced_frame_is_detected_without_marks() -> None:
    """A later frame says what was durable when it was written."""
    files, ends = written()
    content = files.read(HOT)
    for at in range(ends[0], ends[3], 5):
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        files.overwrite(HOT, bytes(damaged))
        files.overwrite(HOME / MARK_NAME, bytes(128))
        with pytest.raises(LogCorrupt):
            open_log(files=files)
        files.restart(power_cut=False)


def test_an_intact_frame_in_the_wrong_place_is_detected() -> None:
    """A write that went astray leaves a valid checksum and a wrong seq."""
    files, ends = written()
    content = files.read(HOT)
    sizes = {end - start for start, end in pairwise(ends)}
    assert len(sizes) == 1, "frames of one size, so that one can stand in the place of another"
    frames = [content[start:end] for start, end in pairwise(ends)]
    for order in ((0, 1, 0, 3), (0, 2, 1, 3), (0, 2), (1, 2, 3)):
        files.overwrite(HOT, content[: ends[0]] + b"".join(frames[number] for number in order))
        with pytest.raises(LogCorrupt, match="should come next"):
            open_log(files=files)
        files.restart(power_cut=False)


def test_a_torn_header_of_a_new_file_is_written_again() -> None:
    """The power went while the file was made: nothing can have been in it."""
    files = SimFiles()
    put(log := open_log(files=files), events(2))
    before = files.read(HOME / MARK_NAME)
    log.roll()
    first, mark = files.read(HOT), files.read(HOME / MARK_NAME)
    second = HOME / "hot-00000000000000000003.log"
    header = files.read(second)
    for size in range(0, len(header), 9):
        files = disk(first, before)
        files.create(second)
        files.fsync_dir(HOME)
        files.overwrite(second, header[:size] + bytes(len(header) - size))
        assert recovered_ids(files) == numbered(1)
        put(log := open_log(files=files), events(1, start=99))
        log.roll()
        assert len(follow(files=files).seal_closed()) == 2
    files = disk(first, mark)
    files.create(second)
    with pytest.raises(LogCorrupt):
        open_log(files=files)
