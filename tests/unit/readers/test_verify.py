"""verify finds what differs and names the record; rebuild makes it level again.

A real log on disk, followed and sealed as the worker does, into Parquet and chDB.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from api.checks.report import Check, Status
from api.readers.base import Pace
from api.readers.clickhouse import ClickHouseReader
from api.readers.facts import FactsReader
from api.readers.sealing import Sealer
from api.readers.tails import LogTails, nodes_on_disk
from api.rebuild import Progress, Rebuildable, UnknownStore, drop, rebuild, wait
from api.verify import Verification, verify
from catalog.clock import FixedClock, to_micros
from catalog.events import RECORDS, RecordKind
from catalog.ids import NodeId
from ingest.batch import to_records
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.store import ClickHouseStore
from storage.log.home import LogLimits
from storage.log.node_log import NodeLog
from storage.parquet.facts import ParquetFacts
from tests.logs_in_memory import T0, event, spec, specs, void

DATABASES = itertools.count()
SPEC, OTHER = spec(), spec(None, kind="other")
INPUT = pl.Schema({name: RECORDS[name] for name in RECORDS if name not in {"seq", "received_at"}})


class World:
    """One node's log and everything derived from it."""

    def __init__(self, data: Path, chdb_path: Path) -> None:
        self.data = data
        node = NodeId("n1")
        self.log = NodeLog.open(
            data / "nodes" / node,
            node=node,
            clock=FixedClock(to_micros(T0)),
            limits=LogLimits(hot_bytes_max=1),
        )
        self.tails = LogTails(data / "nodes", lambda: nodes_on_disk(data / "nodes"))
        self.specs = specs(SPEC, OTHER)
        self.facts = ParquetFacts(data / "facts")
        address = Address(path=chdb_path, database=f"verify_{next(DATABASES)}")
        self.clickhouse = ClickHouseStore(ClickHouse(address))
        given = {"tails": self.tails, "specs": lambda: self.specs, "pace": Pace(rows_max=3)}
        self.readers = {
            "facts": FactsReader(facts=self.facts, **given),
            "clickhouse": ClickHouseReader(store=self.clickhouse, **given),
        }
        self.sealer = Sealer(tails=self.tails)
        self.stores = {
            name: Rebuildable(reader=reader, drop=reader.drop)
            for name, reader in self.readers.items()
        }

    def append(self, *rows: dict) -> None:
        """One frame a call, durable; the next call is in another segment."""
        full = [dict.fromkeys(INPUT) | {"time_given": False} | row for row in rows]
        self.log.append(to_records(pl.DataFrame(full, schema=INPUT)))
        self.log.sync()
        self.log.roll_if_due()

    def settle(self) -> None:
        """Seal and step until everything is level."""
        self.sealer.step()
        for reader in self.readers.values():
            while reader.step() or not level(reader):
                getattr(reader, "_gathering", {}).clear()  # as if a second had passed

    def verify(self, **given: object) -> dict[tuple[str, str], Check]:
        """The checks of a run, by store and name."""
        logs = {node: (self.tails.directory(node), tail) for node, tail in self.tails().items()}
        parts = {"facts": self.facts, "clickhouse": self.clickhouse} | given
        self.report = verify(Verification(logs=logs, specs=self.specs, **parts))
        return {(check.store, check.check): check for check in self.report.checks}


def level(reader) -> bool:
    """Whether a reader has applied everything."""
    return not any(reader.lag.values())


@pytest.fixture
def world(tmp_path: Path, chdb_path: Path) -> Iterator[World]:
    """A log of three segments, everything derived from it level."""
    made = World(tmp_path, chdb_path)
    made.append(event(time=T0), event(kind="other", time=T0), event('{"x":"2"}', time=T0))
    made.append(event('{"x":"99999999999999999.999999999"}', time=T0), void(1))
    made.append(event("{}", time=T0), {"kind": RecordKind.HEARTBEAT})
    made.settle()
    yield made
    made.log.close()


def test_everything_level_is_well(world: World):
    """Segments, Parquet and ClickHouse agree with the log; the report says so."""
    checks = world.verify()
    assert {Status.OK} == {check.status for check in checks.values()}
    assert world.report.ok
    named = {("log", "segments"), ("facts", "voids"), ("facts", "facts")}
    named |= {("clickhouse", name) for name in ("events", "voids", "facts")}
    assert named == set(checks)
    assert "4 rows" in checks["facts", "facts"].detail


@pytest.mark.parametrize(
    ("statement", "check", "seq"),
    [
        ("DELETE FROM events WHERE seq = 3 AND NOT marker", "events", 3),
        ("INSERT INTO events SELECT * FROM events WHERE seq = 4 AND NOT marker", "events", 4),
        ('ALTER TABLE events UPDATE data = \'{"x":"3"}\' WHERE seq = 3', "events", 3),
        ("ALTER TABLE facts UPDATE value = value + 1 WHERE seq = 3", "facts", 3),
        ("ALTER TABLE facts DELETE WHERE seq = 4 AND NOT marker", "facts", 4),
        ("ALTER TABLE voids UPDATE cause = 'x' WHERE seq = 5 AND NOT marker", "voids", 5),
    ],
)
def test_a_difference_in_clickhouse_is_named(world: World, statement: str, check: str, seq: int):
    """Lost, doubled and altered rows are found, and the first record concerned is named."""
    world.clickhouse.clickhouse.command(f"{statement} SETTINGS mutations_sync = 2")
    found = world.verify()["clickhouse", check]
    assert Status.DIFFERENT is found.status
    assert found.first_difference is not None
    assert ("n1", seq) == (found.first_difference.node, found.first_difference.seq)
    assert not world.report.ok


def test_an_altered_facts_file_is_named(world: World):
    """A Parquet file that holds another value is found by the record it is about."""
    [first, *_] = world.facts.state(SPEC.id, NodeId("n1")).files
    rows = pl.read_parquet(first.path)
    value = pl.when(pl.col("seq") == 3).then(pl.col("value") + 1).otherwise(pl.col("value"))
    rows.with_columns(value).write_parquet(first.path)
    found = world.verify()["facts", "facts"]
    assert found.first_difference is not None
    assert found.first_difference.seq == 3


def test_a_damaged_segment_is_named(world: World):
    """A bit that flipped at rest is found; the seq is the segment's first."""
    segment = world.tails()[NodeId("n1")].segments()[1]
    content = bytearray(segment.path.read_bytes())
    content[len(content) // 2] ^= 1
    segment.path.write_bytes(content)
    found = world.verify(facts=None, clickhouse=None)["log", "segments"]
    assert found.first_difference is not None
    assert segment.first_seq == found.first_difference.seq


def test_a_store_that_is_down_is_a_failed_check(world: World):
    """Verify answers all the same, says what it could not compare, and is not ok."""
    down = ClickHouseStore(ClickHouse(Address(url="http://127.0.0.1:1", timeout_s=1)))
    found = world.verify(clickhouse=down)["clickhouse", "derived"]
    assert Status.UNAVAILABLE is found.status
    assert not world.report.ok


def test_checks_of_others_are_part_of_the_report(world: World):
    """Balances and the like come in through a hook."""
    balance = Check.well("balances", "ledger", None, "recounted").differs(None, "acme: 3, not 4")
    found = world.verify(more=[lambda: [balance]])
    assert found["ledger", "balances"] is balance
    assert not world.report.ok


@pytest.mark.parametrize("store", ["clickhouse", "facts"])
def test_a_rebuild_heals(world: World, store: str):
    """What was lost or altered is replayed from the log, with progress, and verifies."""
    world.clickhouse.clickhouse.command("DELETE FROM facts WHERE seq = 3")
    shutil.rmtree(world.data / "facts" / SPEC.id)
    world.facts.__init__(world.data / "facts")
    seen: list[Progress] = []
    done = rebuild([store], world.stores, report=seen.append)
    assert [(store, True)] == [(state.store, state.level) for state in done]
    assert seen[0].applied < seen[-1].applied == seen[-1].durable
    checks = world.verify()
    assert {Status.OK} == {c.status for (name, _), c in checks.items() if name == store}


def test_a_rebuild_beside_running_readers(world: World):
    """The readers replay by themselves after the drop, and nothing is covered before."""
    reader = world.readers["facts"]
    last = world.tails()[NodeId("n1")].durable().received_at
    drop(["facts"], world.stores)
    assert not reader.covered([SPEC.id], as_of=last)
    reader.start()
    try:
        [state] = wait(["facts"], world.stores, wait_s_max=20)
        assert state.level
        assert reader.covered([SPEC.id, OTHER.id], as_of=last)
    finally:
        reader.stop()


def test_an_unknown_store_drops_nothing(world: World):
    """A typo names what there is and leaves every store alone."""
    with pytest.raises(UnknownStore, match="clickhouse, facts"):
        drop(["facts", "click"], world.stores)
    world.verify()
    assert world.report.ok
