"""The ClickHouse reader over HTTP, with every way an insert can go wrong."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from api.readers.base import Pace
from api.readers.clickhouse import BATCH_AGE_S_MAX, ClickHouseReader
from catalog.ids import NodeId
from storage.clickhouse.batches import Table
from storage.clickhouse.client import Address, ClickHouse, StoreUnavailable
from storage.clickhouse.store import ClickHouseStore, StoreInconsistent
from tests.clickhouse_front import Front, Mode, front
from tests.logs_in_memory import MemoryTail, event, heartbeat, spec, specs, void

DATABASES = itertools.count()
SPEC, OTHER = spec(), spec(None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front over HTTP, one for the module."""
    with front(tmp_path_factory.mktemp("front")) as running:
        yield running


class Setting:
    """A reader of one in-memory log into a database of its own."""

    def __init__(self, url: str, *, timeout_s: int = 5) -> None:
        database = f"reader_{next(DATABASES)}"
        self.clickhouse = ClickHouse(Address(url=url, database=database, timeout_s=timeout_s))
        self.tail = MemoryTail()
        self.specs = specs(SPEC)
        self.restart()

    def restart(self) -> None:
        """A reader and a store that know nothing yet."""
        self.store = ClickHouseStore(self.clickhouse)
        self.reader = ClickHouseReader(
            tails=lambda: {self.tail.node: self.tail},
            specs=lambda: self.specs,
            store=self.store,
            pace=Pace(rows_max=3),
        )

    def step(self) -> bool:
        """One step, as if a second had passed."""
        self.reader._gathering.clear()  # as if a second had passed
        return self.reader.step()

    def settle(self, *, failures_max: int = 20) -> int:
        """Step until level; how many steps failed."""
        failures = 0
        while True:
            try:
                if not self.step():
                    return failures
            except StoreUnavailable:
                failures += 1
                assert failures <= failures_max
                time.sleep(0.1)

    def seqs(self, table: str) -> list[int]:
        """The records a table holds rows of."""
        rows = self.clickhouse.query(f"SELECT seq FROM {table} WHERE NOT marker ORDER BY seq")
        return rows["seq"].to_list() if rows.width else []


@pytest.fixture
def setting(server: Front) -> Setting:
    """A fresh database on a front that behaves."""
    server.misbehave(Mode.WELL, count=0)
    made = Setting(server.url)
    made.store.prepare()
    return made


def test_every_table_gets_its_part_of_the_log(setting: Setting):
    """Events, facts and voids arrive, whole and once, and the position is the log's."""
    setting.tail.append(event(), event(kind="other"), void(1), heartbeat(), event())
    setting.settle()
    assert setting.seqs("events") == [1, 2, 5]
    assert setting.seqs("facts") == [1, 5]
    assert setting.seqs("voids") == [3]
    assert setting.reader.positions() == {"n1": 5}


def test_positions_are_read_back_after_a_restart(setting: Setting):
    """A new reader goes on where the rows say, and sends nothing again."""
    setting.tail.append(event(), event())
    setting.settle()
    setting.restart()
    assert setting.store.positions(Table.EVENTS)[NodeId("n1"), ""].seq == 2
    setting.settle()
    assert setting.reader.positions() == {"n1": 2}
    setting.tail.append(event())
    setting.settle()
    assert setting.seqs("events") == [1, 2, 3]


@pytest.mark.parametrize("mode", [Mode.DOWN, Mode.REFUSE, Mode.LOSE_ANSWER])
@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_doubled_or_skipped_when_an_insert_fails(
    setting: Setting, server: Front, mode: Mode, count: int
):
    """Whether the rows of a failed insert arrived is looked up before they are sent again."""
    setting.tail.append(*(event() for _ in range(7)))
    setting.step()
    server.misbehave(mode, count=count)
    assert setting.settle() >= 1
    assert list(range(1, 8)) == setting.seqs("events")
    assert list(range(1, 8)) == setting.seqs("facts")


def test_a_lost_answer_is_found_by_a_restarted_reader(setting: Setting, server: Front):
    """The in-doubt range is read back even by a process that never knew of it."""
    setting.tail.append(event(), event())
    server.misbehave(Mode.LOSE_ANSWER)
    with pytest.raises(StoreUnavailable):
        setting.step()
    setting.restart()
    assert setting.store.positions(Table.EVENTS)[NodeId("n1"), ""].seq == 2
    setting.settle()
    assert setting.seqs("events") == [1, 2]


def test_an_insert_that_still_runs_is_waited_for(setting: Setting, server: Front):
    """After a timeout the server may still be at it: nothing is sent before it has ended."""
    setting.tail.append(event(), event())
    server.misbehave(Mode.LOSE_ANSWER_SLOWLY)
    with pytest.raises(StoreUnavailable):
        setting.step()
    with pytest.raises(StoreUnavailable, match="still running"):
        setting.store.positions(Table.EVENTS)
    setting.settle()
    assert setting.seqs("events") == [1, 2]


def test_a_slow_server_times_out_and_is_not_sent_the_same_twice(server: Front):
    """The client's timeout ends the wait, not the insert."""
    setting = Setting(server.url, timeout_s=1)
    setting.store.prepare()
    setting.tail.append(event())
    server.misbehave(Mode.SLOW)
    assert setting.settle(failures_max=60) >= 1
    assert setting.seqs("events") == [1]


def test_batches_are_cut_at_the_month_of_receipt(setting: Setting):
    """One insert is one part: it never spreads over two partitions."""
    edge = datetime(2026, 12, 1, tzinfo=UTC)
    setting.tail.append(event(), received_at=edge - timedelta(microseconds=1))
    setting.tail.append(event(), event(), received_at=edge)
    setting.settle()
    batches = setting.clickhouse.query(
        "SELECT first_seq, last_seq, toYYYYMM(received_at) AS month FROM events WHERE marker "
        "ORDER BY first_seq"
    )
    assert batches.rows() == [(1, 1, 202611), (2, 3, 202612)]


def test_heartbeats_alone_are_not_sent(setting: Setting):
    """An idle node costs no parts, is covered, and its range joins the next batch."""
    setting.tail.append(event())
    setting.settle()
    setting.tail.append(heartbeat(), heartbeat())
    setting.settle()
    assert setting.reader.covered([SPEC.id], as_of=setting.tail.durable().received_at)
    setting.tail.append(event())
    setting.settle()
    ranges = setting.clickhouse.query(
        "SELECT first_seq, last_seq FROM events WHERE marker ORDER BY first_seq"
    )
    assert ranges.rows() == [(1, 1), (2, 4)]


def test_a_new_spec_is_replayed_and_joins(setting: Setting):
    """A meter that appears gets the whole log; the other facts are not sent again."""
    setting.tail.append(*(event() for _ in range(5)))
    setting.settle()
    setting.specs = specs(SPEC, OTHER)
    assert not setting.reader.covered([OTHER.id], as_of=setting.tail.durable().received_at)
    setting.settle()
    counts = setting.clickhouse.query(
        "SELECT spec, count() AS n FROM facts WHERE NOT marker GROUP BY 1"
    )
    assert {(SPEC.id, 5), (OTHER.id, 5)} == set(counts.rows())
    setting.restart()
    setting.settle()
    assert setting.reader.positions() == {"n1": 5}


@pytest.mark.parametrize(
    "meddle",
    ["DELETE FROM events WHERE seq = 2", "INSERT INTO events SELECT * FROM events WHERE seq = 2"],
)
def test_a_store_that_was_meddled_with_is_named_not_trusted(setting: Setting, meddle: str):
    """A missing or a doubled batch stops the reader with the way out; a rebuild heals it."""
    for _ in range(3):
        setting.tail.append(event())
        setting.step()
    setting.clickhouse.command(meddle)
    setting.restart()
    with pytest.raises(StoreInconsistent, match="rebuild"):
        setting.step()
    setting.reader.drop()
    setting.settle()
    assert setting.seqs("events") == [1, 2, 3]


def test_a_page_waits_a_second_unless_someone_asks(setting: Setting):
    """Small batches go at most once a second; a question that waits for them goes at once."""
    setting.tail.append(event())
    assert setting.reader.step()
    setting.tail.append(event())
    assert BATCH_AGE_S_MAX > 0.5
    assert not setting.reader.step()
    assert not setting.reader.covered([SPEC.id], as_of=setting.tail.durable().received_at)
    assert setting.reader.step()
    assert setting.reader.covered([SPEC.id], as_of=setting.tail.durable().received_at)


@pytest.fixture(params=["chdb", "http"])
def any_store(request: pytest.FixtureRequest, server: Front, chdb_path: Path) -> ClickHouseStore:
    """A fresh database on either engine."""
    database = f"parts_{next(DATABASES)}"
    if request.param == "http":
        return ClickHouseStore(ClickHouse(Address(url=server.url, database=database)))
    return ClickHouseStore(ClickHouse(Address(path=chdb_path, database=database)))


def test_one_insert_is_one_part(any_store: ClickHouseStore):
    """However many rows, the batch lands in a single part, marker included."""
    tail = MemoryTail()
    tail.append(event())
    many = pl.concat([tail.records] * 60_000, rechunk=True)
    tail.records = many.with_columns(
        seq=pl.int_range(1, pl.len() + 1, dtype=pl.Int64), id=pl.int_range(pl.len()).cast(pl.String)
    )
    tails: Callable[[], dict] = lambda: {tail.node: tail}  # noqa: E731
    pace = Pace(rows_max=60_000)
    ClickHouseReader(tails=tails, specs=dict, store=any_store, pace=pace).step()
    parts = any_store.clickhouse.query(
        "SELECT name, rows FROM system.parts WHERE active AND table = 'events' "
        f"AND database = '{any_store.clickhouse.address.database}'"
    )
    assert parts["rows"].to_list() == [60_001]
