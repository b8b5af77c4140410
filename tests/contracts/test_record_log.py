"""What any RecordLog and RecordReader does, the one on disk and the one in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.clock import Clock, FixedClock, to_datetime
from catalog.events import RECORDS
from ingest.batch import APPENDED, to_records
from storage.log.node_log import NodeLog
from storage.memory.files import SimFiles
from storage.memory.log import MemoryLog
from tests.log_samples import NODE, T0_US, events, heartbeat, ids, open_log, void

AnyLog = NodeLog | MemoryLog
Open = Callable[[Clock], AnyLog]

OPENERS: dict[str, Open] = {
    "memory": lambda clock: MemoryLog(NODE, clock),
    "disk": lambda clock: open_log(clock=clock, files=SimFiles()),
}


@pytest.fixture(params=OPENERS)
def opened(request: pytest.FixtureRequest) -> Open:
    """How to open an empty log."""
    return OPENERS[request.param]


def test_groups_are_numbered_in_order(opened: Open) -> None:
    """Seqs are 1, 2, 3, … and receipts increase, whatever the clock does."""
    clock = FixedClock(T0_US)
    log = opened(clock)
    first = log.append(to_records(events(3)))
    clock.set(T0_US - 60)
    second = log.append(to_records(events(2, start=3)))
    clock.set(T0_US + 60)
    third = log.append(to_records(heartbeat()))
    log.sync()
    assert (first.first_seq, second.first_seq, third.first_seq) == (1, 4, 6)
    assert (first.received_at, second.received_at, third.received_at) == (
        T0_US,
        T0_US + 3,
        T0_US + 60,
    )
    assert log.next_seq == 7
    assert log.last_received_at == T0_US + 60


def test_reading_gives_what_was_asked_for_in_order(opened: Open) -> None:
    """Ascending, once each, and nothing for what is not there."""
    log = opened(FixedClock(T0_US))
    log.append(to_records(events(5)))
    log.append(to_records(void(2, id="request-1")))
    log.sync()
    assert log.read([6, 2, 4, 2])["seq"].to_list() == [2, 4, 6]
    assert log.read([6])["target"].to_list() == [2]
    assert log.read([9]).height == log.read([]).height == 0
    assert log.read([1]).schema == RECORDS


def test_what_is_not_synced_is_not_read(opened: Open) -> None:
    """Reading it would be to rely on what a crash may take."""
    log = opened(FixedClock(T0_US))
    log.append(to_records(events(2)))
    assert log.read([1, 2]).height == 0
    assert log.read_after(0, rows_max=9).height == 0
    log.sync()
    assert log.read([1, 2]).height == log.read_after(0, rows_max=9).height == 2


def test_an_empty_group_is_nothing(opened: Open) -> None:
    """It takes no seq."""
    log = opened(FixedClock(T0_US))
    assert log.append(to_records(events(0))).count == 0
    log.append(to_records(events(1)))
    log.sync()
    assert log.read_after(0, rows_max=9)["seq"].to_list() == [1]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIME = st.none() | st.integers(0, 4 * 10**15).map(to_datetime)
RECORD = st.fixed_dictionaries(
    {
        "kind": st.integers(1, 7),
        "source": st.none() | TEXT,
        "id": TEXT,
        "type": TEXT,
        "subject": TEXT,
        "time": TIME,
        "time_given": st.none() | st.booleans(),
        "data": st.none() | TEXT,
        "target": st.none() | st.integers(0, 2**63 - 1),
    }
)


@given(groups=st.lists(st.lists(RECORD, max_size=5), max_size=5), late_us=st.integers(-5, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_disk_keeps_what_memory_keeps(groups: list[list[dict]], late_us: int) -> None:
    """Any text, any nulls, any grouping: the two agree on every column of every record."""
    clock = FixedClock(T0_US)
    files = SimFiles()
    memory, disk = MemoryLog(NODE, clock), open_log(clock=clock, files=files)
    for group in groups:
        clock.set(clock.now_us() + late_us)
        records = pl.DataFrame(group, schema=APPENDED)
        assert memory.append(to_records(records)) == disk.append(to_records(records))
    memory.sync()
    disk.sync()
    expected = memory.read_after(0, rows_max=99)
    assert disk.read_after(0, rows_max=99).equals(expected)
    files.restart(power_cut=True)
    assert open_log(clock=clock, files=files).read_after(0, rows_max=99).equals(expected)


def test_a_slice_of_a_large_frame_is_stored_alone(tmp_path: Path) -> None:
    """Columns share buffers with what they were cut from; the log must not store those."""
    many = events(20_000, time=to_datetime(T0_US) - timedelta(days=1), data='{"x":"a long value"}')
    log = open_log(tmp_path)
    log.append(to_records(many.slice(7, 2)))
    log.append(to_records(many.filter(pl.col("id") == "request-9")))
    log.sync()
    assert ids(log.read([1, 2, 3])) == ["request-7", "request-8", "request-9"]
    assert (tmp_path / "hot-00000000000000000001.log").stat().st_size < 6_000
