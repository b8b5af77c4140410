"""What is measured of the readers: the log into the stores, beside chDB taking the same rows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from api.readers.clickhouse import ClickHouseReader
from api.readers.facts import FactsReader
from bench.gate import expect
from bench.load.events import CATALOG
from bench.log.filled import NODE, fill_log, seal_all
from bench.pairing import interleave
from bench.registry import Context, Goal, Measured, Row
from catalog.clock import Micros
from catalog.grammar import parse_value
from catalog.history import Kind
from catalog.ids import SpecId
from catalog.meters import FactSpec, Meter
from ingest.extract import extract_facts
from storage.clickhouse.batches import EVENTS, Table
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.store import ClickHouseStore
from storage.log.follower import LogFollower
from storage.parquet.facts import ParquetFacts

TITLE = "Readers"
AGAINST = "chDB inserting the same rows from an Arrow stream"
END = Micros(1 << 62)
Specs = Mapping[SpecId, FactSpec]


def specs() -> Specs:
    """What the benchmark's meters read."""
    made = {}
    for name, body in CATALOG["meters"].items():
        meter = parse_value(Kind.METERS, name, body)
        assert isinstance(meter, Meter)
        made[meter.fact_spec.id] = meter.fact_spec
    return made


@dataclass(slots=True, kw_only=True)
class Workbench:
    """A sealed log of ``events`` events, and a chDB where every round has its own database."""

    scratch: Path
    events: int
    round: int = 0

    @property
    def directory(self) -> Path:
        """The node's log."""
        return self.scratch / "log"

    def fill(self) -> None:
        """Write and seal the log."""
        fill_log(self.directory, events=self.events)
        seal_all(self.directory)

    def follower(self) -> LogFollower:
        """A reader of the log."""
        return LogFollower(self.directory, NODE)

    def store(self, side: str) -> ClickHouseStore:
        """An empty database."""
        self.round += 1
        address = Address(path=self.scratch / "chdb", database=f"{side}_{self.round}")
        store = ClickHouseStore(ClickHouse(address))
        store.prepare()
        return store

    def records(self) -> pl.DataFrame:
        """The whole log."""
        parts, after, follower = [], 0, self.follower()
        while (part := follower.read_after(after, rows_max=500_000)).height:
            parts.append(part)
            after = part["seq"][-1]
        return pl.concat(parts)


def drop(store: ClickHouseStore) -> None:
    """Remove a round's database."""
    store.clickhouse.command(f"DROP DATABASE {store.clickhouse.address.database} SYNC")
    store.clickhouse.close()


def count(store: ClickHouseStore, table: Table) -> int:
    """The rows of a table, markers left out."""
    sql = f"SELECT count() AS rows FROM {table} WHERE NOT marker"
    return int(store.clickhouse.query(sql)["rows"][0])


def drive(reader: FactsReader | ClickHouseReader, *, until: int) -> None:
    """Step until everything of the log is read."""
    while reader.positions()[NODE] < until:
        reader.covered((), as_of=END)  # a question waits: no pausing between batches
        reader.step()


def stream_of(rows: pl.DataFrame, path: Path) -> None:
    """Write ``rows`` as an Arrow stream, with what every table has beside its own columns."""
    whole = rows.with_columns(
        marker=pl.lit(value=False),
        first_seq=pl.lit(0, pl.Int64),
        last_seq=pl.lit(0, pl.Int64),
        batch_rows=pl.lit(0, pl.Int64),
        specs=pl.lit([], pl.List(pl.String)),
    )
    with path.open("wb") as file:
        whole.write_ipc_stream(file, compat_level=pl.CompatLevel.oldest())


def insert_stream(bench: Workbench, table: Table, path: Path, rows: int) -> float:
    """Rows a second that chDB takes from an Arrow stream file into an empty table."""
    store = bench.store("theirs")
    columns = ", ".join(pl.read_ipc_stream(path, n_rows=1).columns)
    began_s = time.perf_counter()
    store.clickhouse.command(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM file('{path}', 'ArrowStream')"
    )
    elapsed_s = time.perf_counter() - began_s
    expect("rows chDB has", seen=count(store, table), wanted=rows)
    drop(store)
    return rows / elapsed_s


def log_into_clickhouse(bench: Workbench) -> float:
    """Events a second from the log into ClickHouse's events."""
    store = bench.store("ours")
    follower = bench.follower()
    reader = ClickHouseReader(tails=lambda: {NODE: follower}, specs=dict, store=store)
    began_s = time.perf_counter()
    drive(reader, until=bench.events)
    elapsed_s = time.perf_counter() - began_s
    expect("events in ClickHouse", seen=count(store, Table.EVENTS), wanted=bench.events)
    drop(store)
    return bench.events / elapsed_s


def log_into_facts(bench: Workbench) -> float:
    """Facts a second from the log into Parquet and ClickHouse, one reader after the other."""
    wanted = specs()
    store = bench.store("ours")
    follower = bench.follower()
    chosen: dict[SpecId, FactSpec] = {}
    clickhouse = ClickHouseReader(tails=lambda: {NODE: follower}, specs=lambda: chosen, store=store)
    drive(clickhouse, until=bench.events)  # the events: another row's figure
    chosen.update(wanted)
    directory = bench.scratch / f"facts-{bench.round}"
    facts = ParquetFacts(directory)
    parquet = FactsReader(tails=lambda: {NODE: follower}, specs=lambda: wanted, facts=facts)
    began_s = time.perf_counter()
    drive(parquet, until=bench.events)
    drive(clickhouse, until=bench.events)
    elapsed_s = time.perf_counter() - began_s
    rows = bench.events * len(wanted)
    expect("facts in ClickHouse", seen=count(store, Table.FACTS), wanted=rows)
    found = pl.scan_parquet(directory / "**" / "*.parquet", hive_partitioning=False)
    expect("facts in Parquet", seen=found.select(pl.len()).collect().item(), wanted=rows)
    shutil.rmtree(directory)
    drop(store)
    return rows / elapsed_s


def _measure(
    context: Context,
    ours: Callable[[Workbench], float],
    table: Table,
    rows_of: Callable[[pl.DataFrame], pl.DataFrame],
) -> Measured:
    bench = Workbench(scratch=context.scratch, events=context.size(2_000_000, 500_000))
    bench.fill()
    path = context.scratch / "rows.arrow"
    rows = rows_of(bench.records())
    stream_of(rows, path)
    count_rows = rows.height
    del rows
    paired = interleave(
        lambda _: ours(bench),
        lambda _: insert_stream(bench, table, path, count_rows),
        rounds=context.rounds,
    )
    return Measured(
        unit="rows/s",
        paired=paired,
        method={
            "rows": f"{count_rows:,} a side and round, {bench.events:,} events in sealed segments",
            "batch": "ours: the readers' pages, one insert a part; chDB: one stream, as it likes",
            "concurrency": "one reader thread; chDB's own threads on both sides",
            "fsync": "fsync_after_insert and fsync_part_directory on both sides; Parquet fsynced",
            "pinning": f"none: cores {sorted(os.sched_getaffinity(0))} for both",
        },
    )


def _events_of(records: pl.DataFrame) -> pl.DataFrame:
    return records.with_columns(node=pl.lit(str(NODE))).select(list(EVENTS))


def _facts_of(records: pl.DataFrame) -> pl.DataFrame:
    return extract_facts(records, list(specs().values()), node=NODE)


ROWS = [
    Row(
        key="readers/clickhouse",
        title="log → ClickHouse",
        against=AGAINST,
        goal=Goal(reach=0.75, stretch=0.90),
        measure=lambda c: _measure(c, log_into_clickhouse, Table.EVENTS, _events_of),
    ),
    Row(
        key="readers/facts",
        title="log → facts in Parquet and ClickHouse",
        against=AGAINST,
        goal=Goal(reach=0.55, stretch=0.70),
        measure=lambda c: _measure(c, log_into_facts, Table.FACTS, _facts_of),
    ),
]
