"""The index made again from a real log: hot files, sealed segments, and only the window's part."""

from __future__ import annotations

import errno

import numpy as np
import polars as pl
import pytest

from catalog.clock import FixedClock
from ingest.batch import to_records
from ingest.ports import LogUnavailable
from storage.log.identity_index import DAY_US, DiskIdentityIndex, IndexLimits
from storage.log.node_log import NodeLog
from storage.memory.files import SimFiles
from tests.log_samples import HOME, T0_US, events, follow, identified, open_log, put, void

LIMITS = IndexLimits(table_rows=64, backlog_max=1)


def written(files: SimFiles, clock: FixedClock) -> NodeLog:
    """A log of ten days with 20 events a day, the first eight of them sealed."""
    log = open_log(files=files, clock=clock)
    for day in range(10):
        clock.set(T0_US + day * DAY_US)
        put(log, events(20, start=20 * day))
        if day < 8:
            log.roll()
    follow(files=files).seal_closed()
    return log


def opened(log: NodeLog, files: SimFiles, *, window_days: int = 35) -> DiskIdentityIndex:
    """The index of ``log``, maintained only when it must be."""
    return DiskIdentityIndex.open(
        log.index_directory,
        log,
        window_days=window_days,
        files=files,
        limits=LIMITS,
        background=False,
    )


def test_every_identity_and_void_of_the_log_is_known_again() -> None:
    """With the content's digest, so that exact copies need no look at the log."""
    files, clock = SimFiles(), FixedClock(T0_US)
    log = written(files, clock)
    put(log, void(3, id="request-2"), void(200, id="request-199"))
    index = opened(log, files)
    probed = index.probe(identified(index, events(220)))
    assert probed.seq[:200].tolist() == list(range(1, 201))
    assert probed.same[:200].all()
    assert not probed.seq[200:].any()
    assert np.flatnonzero(index.is_void(range(1, 201))).tolist() == [2, 199]


def test_what_is_older_than_the_window_is_not_even_read() -> None:
    """A node starts in the time its window takes, not its history."""
    files, clock = SimFiles(), FixedClock(T0_US)
    log = written(files, clock)
    for day in range(5):
        stem = f"segment-{20 * day + 1:020d}-{20 * day + 20:020d}"
        files.unlink(HOME / f"{stem}.parquet")
    index = opened(log, files, window_days=4)
    probed = index.probe(identified(index, events(200)))
    assert (probed.seq[119:] > 0).all()
    assert not probed.seq[:119].any()  # all but the last of the sixth day are older than that


def submit(log: NodeLog, index: DiskIdentityIndex, start: int, stop: int) -> None:
    """Probe, append and insert a group, as a gateway does."""
    group = events(stop - start, start=start)
    identities = identified(index, group)
    assert not index.probe(identities).seq.any()
    appended = log.append(to_records(group))
    log.sync()
    index.insert(identities, first_seq=appended.first_seq, received_at=appended.received_at)


def test_a_checkpoint_leaves_only_the_tail_to_read() -> None:
    """What the runs cover is not read from the log again."""
    files, clock = SimFiles(), FixedClock(T0_US)
    log = open_log(files=files, clock=clock)
    index = opened(log, files)
    for start in range(0, 200, 20):
        submit(log, index, start, start + 20)
        if start < 120:
            log.roll()
    index.maintain()
    follow(files=files).seal_closed()
    for name in files.names(HOME):
        if name.endswith(".parquet"):
            files.unlink(HOME / name)
    again = opened(log, files)
    assert again.probe(identified(again, events(200))).seq.tolist() == list(range(1, 201))


def test_a_checkpoint_before_the_voids_of_its_group_does_not_lose_them() -> None:
    """A table may fill up, and be written, between a group's events and its voids."""
    files, clock = SimFiles(), FixedClock(T0_US)
    log = open_log(files=files, clock=clock)
    index = opened(log, files)
    submit(log, index, 0, 60)
    group = events(10, start=60)
    identities = identified(index, group)
    index.probe(identities)
    log.append(to_records(pl.concat([void(3, id="request-2"), group])))
    log.sync()
    index.insert(identities, first_seq=62, received_at=T0_US + 61)
    index.maintain()
    assert any(name.startswith("run-") for name in files.names(log.index_directory))
    again = opened(log, files)
    assert again.is_void([2, 3]) == [False, True]
    assert again.probe(identified(again, group)).seq.tolist() == list(range(62, 72))


def test_an_index_ahead_of_its_log_is_not_believed() -> None:
    """The log was put back to an earlier copy: its records decide, not ours."""
    files, clock = SimFiles(), FixedClock(T0_US)
    log = written(files, clock)
    opened(log, files).maintain()
    younger = SimFiles()
    log = open_log(files=younger, clock=clock)
    put(log, events(5))
    for name in files.names(log.index_directory):
        path = log.index_directory / name
        younger.create(path)
        younger.overwrite(path, files.read(path))
    index = opened(log, younger)
    probed = index.probe(identified(index, events(200)))
    assert probed.seq.tolist() == [*range(1, 6), *[0] * 195]


def test_a_disk_that_takes_no_runs_is_told_before_memory_runs_out() -> None:
    """A few tables may wait; then a group is refused before it begins, and nothing is forgotten.

    What is inserted is in the log already: a table that it fills half-way must not keep the rest
    out of the index, or copies of it would be taken for new.
    """
    files, clock = SimFiles(), FixedClock(T0_US)
    log = open_log(files=files, clock=clock)
    index = opened(log, files)
    put(log, events(150))
    files.fail_at(1, errno.ENOSPC)
    index.insert(identified(index, events(150)), first_seq=1, received_at=T0_US)
    with pytest.raises(LogUnavailable):
        index.probe(identified(index, events(1, start=150)))
    assert index.probe(identified(index, events(150))).seq.tolist() == list(range(1, 151))
    index.maintain()
    assert (index.probe(identified(index, events(150))).seq > 0).all()
