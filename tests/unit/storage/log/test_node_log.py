"""Appending, reading back, rolling, and what recovery keeps."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import polars as pl
import pytest

from catalog.clock import FixedClock, to_datetime
from catalog.events import RECORDS
from ingest.batch import to_records
from ingest.ports import LogUnavailable
from storage.log.files import LogLocked
from storage.log.frames import LogCorrupt, LogTooNew
from storage.log.home import LogLimits
from storage.log.node_log import LogFull
from storage.memory.files import SimFiles
from tests.log_samples import (
    HOME,
    NODE,
    T0_US,
    events,
    everything,
    follow,
    heartbeat,
    ids,
    open_log,
    put,
    void,
)


def test_records_come_back_numbered_and_dated(tmp_path: Path) -> None:
    """Record i of a group has first_seq + i and received_at + i microseconds."""
    log = open_log(tmp_path)
    given = log.append(to_records(events(3, time=to_datetime(T0_US - 5))))
    log.sync()
    records = log.read([1, 3])
    assert (given.first_seq, given.received_at, given.count) == (1, T0_US, 3)
    assert records["seq"].to_list() == [1, 3]
    assert records["received_at"].to_list() == [to_datetime(T0_US), to_datetime(T0_US + 2)]
    assert records["time"].to_list() == [to_datetime(T0_US - 5)] * 2
    assert records.schema == RECORDS


def test_an_event_without_time_gets_its_receipt(tmp_path: Path) -> None:
    """Only events are filled: a heartbeat's time stays null."""
    log = open_log(tmp_path)
    put(log, pl.concat([events(2), heartbeat()]))
    records = everything(log)
    assert records["time"].to_list() == [*records["received_at"].to_list()[:2], None]
    assert records["time_given"].to_list() == [False, False, None]


def test_received_at_increases_when_the_clock_steps_back(tmp_path: Path) -> None:
    """Also across a restart, an empty hot file and a group that outruns the clock."""
    clock = FixedClock(T0_US)
    log = open_log(tmp_path, clock=clock)
    put(log, events(3))
    clock.set(T0_US - 10**9)
    put(log, events(2))
    log.roll()
    log.close()
    log = open_log(tmp_path, clock=clock)
    assert log.last_received_at == T0_US + 4
    put(log, events(1))
    received = everything(log)["received_at"].dt.epoch("us").to_list()
    assert received == [T0_US + i for i in range(6)]


def test_an_empty_group_writes_nothing(tmp_path: Path) -> None:
    """It has no records to number."""
    log = open_log(tmp_path)
    assert log.append(to_records(events(0))).count == 0
    assert log.next_seq == 1


def test_other_columns_are_refused_and_harm_nothing(tmp_path: Path) -> None:
    """A frame with the wrong schema is a bug of the caller, not a state of the log."""
    log = open_log(tmp_path)
    with pytest.raises(TypeError):
        log.append(to_records(events(1)).drop_columns(["target"]))
    put(log, events(1))
    assert everything(log).height == 1


def test_large_groups_survive(tmp_path: Path) -> None:
    """A group of several record batches, longer than what a scan reads at once, is one frame."""
    data = '{"text":"' + "x" * 500 + '"}'
    log = open_log(tmp_path)
    put(log, events(1), events(20_000, start=1, data=data), events(1, start=20_001))
    log.close()
    log = open_log(tmp_path)
    assert log.next_seq == 20_003
    assert ids(everything(log, rows_max=7_001)) == [f"request-{i}" for i in range(20_002)]


def test_it_rolls_by_bytes_and_by_age(tmp_path: Path) -> None:
    """A file of heartbeats alone waits for the longer age; an empty one never rolls."""
    clock = FixedClock(T0_US)
    limits = LogLimits(hot_bytes_max=50_000, hot_age_us_max=100, idle_age_us_max=1_000)
    log = open_log(tmp_path, clock=clock, limits=limits)
    assert not log.roll_if_due()
    put(log, heartbeat())
    clock.set(T0_US + 999)
    assert not log.roll_if_due()
    clock.set(T0_US + 1_000)
    assert log.roll_if_due()
    put(log, events(1))
    clock.set(T0_US + 1_099)
    assert not log.roll_if_due()
    clock.set(T0_US + 1_100)
    assert log.roll_if_due()
    put(log, events(1_000))
    assert log.roll_if_due()
    assert everything(log)["seq"].to_list() == list(range(1, 1_003))


def test_reads_span_sealed_closed_and_current_files(tmp_path: Path) -> None:
    """A record is found wherever it lies, also after its file was sealed under the reader."""
    log = open_log(tmp_path)
    for start in (0, 10, 20):
        put(log, events(4, start=start), void(1, id="request-0"))
        if start < 20:
            log.roll()
    wanted = [1, 5, 6, 10, 11, 14, 15]
    before = log.read(wanted)
    assert before["seq"].to_list() == wanted
    assert len(follow(tmp_path).seal_closed()) == 2
    assert log.read(wanted).equals(before)
    assert log.read([99]).height == 0


def test_a_second_opener_is_refused_at_once(tmp_path: Path) -> None:
    """And the lock dies with the process that held it, even when it is killed."""
    ready = multiprocessing.get_context("spawn").Event()
    holder = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(tmp_path, ready), daemon=True
    )
    holder.start()
    assert ready.wait(30)
    with pytest.raises(LogLocked):
        open_log(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(30)
    assert ids(everything(open_log(tmp_path))) == ["request-0"]


def _hold(directory: Path, ready: object) -> None:
    log = open_log(directory)
    put(log, events(1))
    ready.set()
    signal.pause()


@pytest.mark.parametrize("call", [1, 2])
def test_an_io_error_poisons_the_log(call: int) -> None:
    """Nothing is acknowledged after it, although the disk answers again."""
    files = SimFiles()
    log = open_log(files=files)
    put(log, events(2))
    files.fail_at(call)
    with pytest.raises(LogUnavailable):
        put(log, events(2, start=2))
    for call_again in (lambda: log.append(to_records(events(1))), log.sync, lambda: log.read([1])):
        with pytest.raises(LogUnavailable):
            call_again()
    assert not log.roll_if_due()


def test_a_failed_sync_is_not_believed_after_a_restart() -> None:
    """The kernel forgot the pages and calls them clean: recovery writes them again.

    Kept frames must survive a power cut, although nothing but recovery ever synced them.
    """
    files = SimFiles()
    log = open_log(files=files)
    put(log, events(2))
    log.append(to_records(events(3, start=2)))
    files.fail_at(1)
    with pytest.raises(LogUnavailable):
        log.sync()
    files.restart(power_cut=False)
    log = open_log(files=files)
    assert log.recovered.unmarked_records == 3
    assert log.durable.seq == 5
    files.restart(power_cut=True)
    assert ids(everything(open_log(files=files))) == [f"request-{i}" for i in range(5)]


@pytest.mark.parametrize("seed", range(5))
def test_a_full_disk_refuses_and_the_log_goes_on(seed: int) -> None:
    """What the write left behind is cut, and the same seq is given again once there is space."""
    files = SimFiles(seed)
    log = open_log(files=files)
    put(log, events(2))
    files.fail_at(1, errno.ENOSPC)
    with pytest.raises(LogFull):
        log.append(to_records(events(90, start=50)))
    put(log, events(2, start=2))
    assert ids(everything(log)) == [f"request-{i}" for i in range(4)]
    files.restart(power_cut=True)
    log = open_log(files=files)
    assert log.recovered.cut_bytes == 0
    assert ids(everything(log)) == [f"request-{i}" for i in range(4)]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_full_disk_while_rolling_keeps_the_old_file(call: int) -> None:
    """There may be room for a frame where there is none for a file."""
    files = SimFiles()
    log = open_log(files=files, limits=LogLimits(hot_bytes_max=1))
    put(log, events(2))
    files.fail_at(call, errno.ENOSPC)
    assert not log.roll_if_due()
    put(log, events(2, start=2))
    files.restart(power_cut=True)
    assert ids(everything(open_log(files=files))) == [f"request-{i}" for i in range(4)]


def test_a_closed_log_answers_nothing(tmp_path: Path) -> None:
    """And lets the next process have the directory."""
    log = open_log(tmp_path)
    log.close()
    with pytest.raises(LogUnavailable):
        log.append(to_records(events(1)))
    open_log(tmp_path).close()


def test_an_appended_group_is_not_visible_before_its_sync(tmp_path: Path) -> None:
    """Neither to the node's own reader nor to a follower."""
    log, follower = open_log(tmp_path), follow(tmp_path)
    put(log, events(1))
    log.append(to_records(events(1, start=1)))
    assert everything(log).height == everything(follower).height == 1
    log.sync()
    assert everything(log).height == everything(follower).height == 2


def test_records_that_were_durable_and_are_gone_stop_the_node() -> None:
    """A missing hot file is not an empty log."""
    files = SimFiles()
    put(log := open_log(files=files), events(2))
    log.roll()
    put(log, events(1))
    log.close()
    files.unlink(HOME / "hot-00000000000000000003.log")
    with pytest.raises(LogCorrupt):
        open_log(files=files)


def test_a_missing_segment_stops_the_node() -> None:
    """Seqs have no gaps, so a gap is a loss."""
    files = SimFiles()
    log = open_log(files=files)
    for start in range(3):
        put(log, events(1, start=start))
        log.roll()
    follow(files=files).seal_closed()
    log.close()
    files.unlink(HOME / "segment-00000000000000000002-00000000000000000002.json")
    with pytest.raises(LogCorrupt, match="record 2 should come next"):
        open_log(files=files)


def test_a_newer_format_is_refused_loudly(tmp_path: Path) -> None:
    """Both by the node and by a follower; nothing is touched."""
    put(log := open_log(tmp_path), events(1))
    log.close()
    path = tmp_path / "hot-00000000000000000001.log"
    content = bytearray(path.read_bytes())
    content[8] += 1
    path.write_bytes(content)
    for read in (lambda: open_log(tmp_path), lambda: everything(follow(tmp_path))):
        with pytest.raises(LogTooNew, match="format 2"):
            read()
    assert path.read_bytes() == content


def test_another_nodes_file_is_refused(tmp_path: Path) -> None:
    """A file copied into the wrong directory is not this node's log."""
    put(log := open_log(tmp_path / "a"), events(1))
    log.close()
    name = "hot-00000000000000000001.log"
    content = (tmp_path / "a" / name).read_bytes().replace(NODE.encode(), b"n2")
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(LogCorrupt):
        open_log(tmp_path / "a")
