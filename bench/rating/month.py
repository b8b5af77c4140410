"""Rating a month: cold from facts, warm from cells, and what DuckDB takes only to aggregate it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb
import polars as pl

from bench.gate import expect
from bench.rating.world import METERS, MONTH, NODE, SINCE, UNTIL, Size, catalog, fill
from bench.registry import Context
from catalog.clock import Micros, to_micros
from catalog.events import FACTS, VOIDS
from catalog.ids import Seq, SpecId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.cuts import cuts_of
from rating.pipeline import rate
from rating.planned import Planning
from rating.ports import SPANS
from rating.rater import Rater
from rating.rendering import checksum
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

CUSTOMERS = 10_000
AFTER = Micros(to_micros(UNTIL) + 3_600_000_000)
LENGTH = 29 * 86_400_000_000
HAIKU = '{"model":"haiku","region":"eu"}'
PERIOD = PeriodSpec.parse(MONTH)


@dataclass
class Month:
    """The business of :mod:`bench.rating.world`, opened, with its cells made."""

    context: Context
    events: int
    customers: int = CUSTOMERS
    start: str = "2026-01-01"
    as_of: Micros = field(default=AFTER)

    @cached_property
    def known(self) -> Catalog:
        """The catalog; building it is not timed."""
        return catalog(self.customers, self.start)

    @property
    def directory(self) -> Path:
        """Where its files are kept."""
        size = "" if self.customers == CUSTOMERS else f"-{self.customers}"
        return self.context.cache / f"rating-{self.events}{size}"

    @cached_property
    def facts(self) -> ParquetFacts:
        """Files of facts, made once and kept in the cache."""
        return fill(self.directory, Size(self.events, self.customers), self.known)

    @cached_property
    def source(self) -> CellSource:
        """Cells of all of them."""
        cells = ParquetCells(self.directory / "cells", self.facts)
        cuts = cuts_of(self.known)
        for spec in self.specs.values():
            while (file := cells.due(spec, NODE)) is not None:
                cells.extend(spec, file, cuts)
            while cells.merge(spec, NODE) is not None:
                pass
        return CellSource(cells, self.facts, lambda: cuts)

    @cached_property
    def specs(self) -> dict[str, SpecId]:
        """The spec of each meter."""
        return {name: self.known.meters[name].last.fact_spec.id for name in METERS}

    def cold(self) -> float:
        """Months rated a second from facts, nothing kept."""
        began_s = time.perf_counter()
        rate(self.known, period=PERIOD, source=self.facts, as_of=self.as_of)
        return 1 / (time.perf_counter() - began_s)

    def warm(self, planning: Planning) -> float:
        """Months rated a second from cells, plans kept; each as of another instant."""
        self.as_of = Micros(self.as_of + 1)
        began_s = time.perf_counter()
        rate(self.known, period=PERIOD, source=self.source, as_of=self.as_of, planning=planning)
        return 1 / (time.perf_counter() - began_s)

    def customer(self, rater: Rater, number: int) -> float:
        """Milliseconds for the totals of one customer, each as of another instant."""
        self.as_of = Micros(self.as_of + 1)
        contract = f"k-c{number * 31 % CUSTOMERS:05d}"
        began_s = time.perf_counter()
        rater.rate(
            self.known, period=PERIOD, source=self.source, as_of=self.as_of, contracts=[contract]
        )
        return (time.perf_counter() - began_s) * 1_000

    def aggregated(self) -> float:
        """Months aggregated a second by DuckDB: one query a meter, two threads."""
        began_s = time.perf_counter()
        for name in METERS:
            self.grouped(name)
        return 1 / (time.perf_counter() - began_s)

    def grouped(self, name: str) -> pl.DataFrame:
        """What DuckDB makes of one meter: quantity and events by subject and dimensions."""
        quantity = {"calls": "count(*)", "storage": "max(value)"}.get(name, "sum(value)")
        files = self.directory / "facts" / self.specs[name]
        with duckdb.connect(config={"threads": 2}) as connection:
            return connection.sql(
                f"SELECT subject, dimensions, {quantity} AS quantity, count(*) AS events "
                f"FROM read_parquet('{files}/*.parquet') WHERE time >= '{SINCE.isoformat()}' "
                f"AND time < '{UNTIL.isoformat()}' AND received_at <= '2026-12-01T00:00:00+00:00' "
                "GROUP BY ALL"
            ).pl()

    def check(self) -> None:
        """Fail unless the totals of cells are those of facts, and the quantities DuckDB's.

        Raises:
            BenchFailed: they are not.
        """
        lines = [
            rate(self.known, period=PERIOD, source=source, as_of=AFTER).lines
            for source in (self.facts, self.source)
        ]
        expect("checksum from cells", seen=checksum(lines[1]), wanted=checksum(lines[0]))
        for name in METERS:
            subjects = [f"s-c{n:05d}" for n in range(self.customers)]
            spans = pl.DataFrame(
                [(n, self.specs[name], s, SINCE, UNTIL) for n, s in enumerate(subjects)],
                schema=SPANS,
                orient="row",
            )
            ours = self.source.extremes(spans, as_of=AFTER)
            column = {"calls": "count", "storage": "high"}.get(name, "sum")
            seen = ours.select(
                subject=pl.lit(pl.Series(subjects)).gather(pl.col("span")),
                dimensions="dimensions",
                quantity=pl.col(column).cast(pl.Decimal(38, 9)),
                events="count",
            ).sort("subject", "dimensions")
            theirs = self.grouped(name).with_columns(
                pl.col("quantity").cast(pl.Decimal(38, 9)), pl.col("events").cast(pl.Int64)
            )
            same = seen.equals(theirs.sort("subject", "dimensions"))
            expect(f"quantities of {name} as DuckDB's", seen=same, wanted=True)

    def late(self, number: int) -> None:
        """One more per cent of the month's events, received now, for every customer."""
        count = self.events // 100
        last = self.facts.state(VOIDS_KEY, NODE).reached
        random = pl.Series(range(count)) + number * 7919
        received = self.as_of + 1 + pl.Series(range(count))
        for name, spec in self.specs.items():
            own = random.filter(random % len(METERS) == list(METERS).index(name))
            seqs = last + 1 + own - number * 7919
            group = HAIKU if name == "tokens" else "{}"
            rows = pl.DataFrame(
                {
                    "node": pl.repeat(NODE, len(own), eager=True), "seq": seqs,
                    "spec": pl.repeat(spec, len(own), eager=True),
                    "subject": "s-c" + (own * 31 % self.customers).cast(pl.String).str.zfill(5),
                    "time": (to_micros(SINCE) + own * 2_617_001 % LENGTH).cast(FACTS["time"]),
                    "received_at": received.gather(own - number * 7919).cast(FACTS["time"]),
                    "value": pl.repeat(1, len(own), eager=True).cast(FACTS["value"]),
                    "text": pl.repeat(None, len(own), eager=True, dtype=pl.String),
                    "dimensions": pl.repeat(group, len(own), eager=True),
                }
            )  # fmt: skip
            self.facts.extend(spec, NODE, last=Seq(last + count), rows=rows.select(list(FACTS)))
        self.facts.extend(VOIDS_KEY, NODE, last=Seq(last + count), rows=VOIDS.to_frame())
        self.as_of = Micros(self.as_of + count + 1)
