"""Segments say what the hot file said, and whatever is changed in them is noticed."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from catalog.events import RECORDS
from storage.log.frames import LogCorrupt, LogTooNew
from storage.log.sealed import encode_manifest
from storage.log.verify import verify_segments
from storage.memory.files import PowerCut, SimFiles
from tests.log_samples import (
    HOME,
    NODE,
    T0_US,
    events,
    everything,
    follow,
    heartbeat,
    open_log,
    put,
    void,
)

STEM = "segment-00000000000000000001-00000000000000000005"


def sealed() -> SimFiles:
    """A disk with one segment of five records and a hot file of one."""
    files = SimFiles()
    log = open_log(files=files)
    put(log, events(3), void(2, id="request-1"), heartbeat())
    log.roll()
    put(log, events(1, start=9))
    follow(files=files).seal_closed()
    log.close()
    return files


def test_a_segment_is_plain_parquet_in_log_order(tmp_path: Path) -> None:
    """Anything that reads Parquet reads the archive, without us."""
    log = open_log(tmp_path)
    put(log, events(2_000), events(1, start=2_000))
    before = everything(log)
    log.roll()
    (manifest,) = follow(tmp_path).seal_closed()
    found = pl.read_parquet(manifest.path)
    assert found.schema == RECORDS
    assert found.equals(before)
    assert not list(tmp_path.glob("hot-00000000000000000001*"))


def test_no_power_cut_while_sealing_loses_a_record() -> None:
    """At every call, and with names made durable in any order: the hot file or the segment."""
    cuts = 0
    for call, seed in itertools.product(range(1, 30), range(12)):
        files = SimFiles(seed)
        log = open_log(files=files)
        put(log, events(3), void(2, id="request-1"), heartbeat())
        log.roll()
        put(log, events(1, start=9))
        before = everything(log)
        log.close()
        files.cut_at(call)
        with contextlib.suppress(PowerCut):
            follow(files=files).seal_closed()
        cuts += files._off
        files.restart(power_cut=True)
        again = open_log(files=files)
        assert everything(again)[: before.height].equals(before), (call, seed)
        again.close()
    assert cuts > 100


def test_the_manifest_counts_and_dates_its_records() -> None:
    """Kinds by name, and the ranges of receipt and of the events' own time."""
    (manifest,) = follow(files=sealed()).segments()
    assert manifest.counts == (("event", 3), ("heartbeat", 1), ("void", 1))
    assert (manifest.node, manifest.first_seq, manifest.last_seq) == (NODE, 1, 5)
    assert (manifest.first_received_at, manifest.last_received_at) == (T0_US, T0_US + 4)
    assert (manifest.first_time, manifest.last_time) == (T0_US, T0_US + 2)


def test_only_closed_files_are_sealed() -> None:
    """The file the gateway writes to is its own, however old it is."""
    files = SimFiles()
    log = open_log(files=files)
    follower = follow(files=files)
    assert follower.seal_closed() == []
    put(log, events(2))
    assert follower.seal_closed() == []
    log.roll()
    assert [m.last_seq for m in follower.seal_closed()] == [2]
    assert follower.seal_closed() == []
    assert everything(follower).height == 2


def test_a_damaged_hot_file_is_not_sealed() -> None:
    """It is named, and stays for whoever has to look at it."""
    files = SimFiles()
    log = open_log(files=files)
    put(log, events(2))
    log.roll()
    path = HOME / "hot-00000000000000000001.log"
    content = bytearray(files.read(path))
    content[-9] ^= 1
    files.overwrite(path, bytes(content))
    with pytest.raises(LogCorrupt, match="hot-00000000000000000001"):
        follow(files=files).seal_closed()
    assert files.read(path) == content


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_every_flipped_bit_of_a_segment_is_detected(suffix: str) -> None:
    """By verify, which names the file, and by a reader, which serves nothing of it."""
    files = sealed()
    path = HOME / (STEM + suffix)
    content = files.read(path)
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        files.overwrite(path, bytes(damaged))
        try:
            difference = verify_segments(HOME, node=NODE, files=files)
        except LogTooNew:
            continue  # the version, flipped upwards
        assert difference is not None, f"bit {bit}"
        assert (difference.file, difference.seq) == (str(path), 1)
        if bit % 97 == 0:
            with pytest.raises(LogCorrupt):
                follow(files=files).read_after(0, rows_max=10)


def test_a_lost_segment_is_named() -> None:
    """The manifest vouches for a file that is not there."""
    files = sealed()
    files.unlink(HOME / f"{STEM}.parquet")
    difference = verify_segments(HOME, node=NODE, files=files)
    assert difference is not None
    assert difference.detail == "the segment is missing"


def test_a_newer_manifest_is_refused_loudly() -> None:
    """This release cannot know what a later format means."""
    files = sealed()
    path = HOME / f"{STEM}.json"
    document = json.loads(files.read(path))
    files.overwrite(path, json.dumps(document | {"format": 2}).encode())
    with pytest.raises(LogTooNew, match="format 2"):
        follow(files=files).segments()


@pytest.mark.parametrize(
    "change",
    [
        {"counts": (("event", 5),)},
        {"last_received_at": T0_US + 5},
        {"first_time": None},
        {"sha256": "0" * 64},
        {"bytes": 1},
    ],
)
def test_a_manifest_that_says_otherwise_is_named(change: dict[str, object]) -> None:
    """With a checksum of its own that fits, it still has to describe the records."""
    files = sealed()
    (manifest,) = follow(files=files).segments()
    files.overwrite(HOME / f"{STEM}.json", encode_manifest(replace(manifest, **change)))
    difference = verify_segments(HOME, node=NODE, files=files)
    assert difference is not None
    assert difference.seq == 1


def test_a_gap_between_segments_is_named() -> None:
    """Every record has its place; a segment that vanished with its manifest is a loss."""
    files = SimFiles()
    log = open_log(files=files)
    for start in range(3):
        put(log, events(1, start=start))
        log.roll()
    follow(files=files).seal_closed()
    files.unlink(HOME / "segment-00000000000000000002-00000000000000000002.json")
    difference = verify_segments(HOME, node=NODE, files=files)
    assert difference is not None
    assert difference.detail == "record 2 should come next; it is missing"
