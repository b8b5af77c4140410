"""A million lines as CSV and Parquet: as ``GET /v1/totals`` streams them, and by DuckDB's COPY."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from bench.gate import expect
from bench.rating.world import MODELS
from rating.chunks import csv_chunks, parquet_chunks
from rating.frames import LINES, sorted_lines
from rating.rendering import checksum

CHUNKS: dict[str, Callable[[pl.DataFrame], Iterator[bytes]]] = {
    "csv": csv_chunks,
    "parquet": parquet_chunks,
}
COPY = {"csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet, COMPRESSION zstd"}
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Handing:
    """Lines in memory, and a directory to write them to."""

    directory: Path
    count: int

    @cached_property
    def lines(self) -> pl.DataFrame:
        """LINES of usage, five a contract, some with dimensions; every id is another."""
        random = np.random.default_rng(3)
        number = pl.Series("number", range(self.count))
        contract = (number // 5).cast(pl.String).str.zfill(6)
        digest = pl.Series(random.integers(0, 2**62, self.count)).cast(pl.String).str.zfill(20)
        dims = pl.Series([f'{{"model":"{model}"}}' for model in MODELS] + ["{}"] * 2)
        units = pl.col("nanos").cast(pl.Decimal(38, 9)) / pl.lit(10**9).cast(pl.Decimal(38, 0))
        made = pl.DataFrame(
            {
                "line_id": "k-c" + contract + "~20261001~" + digest,
                "customer": "c" + contract,
                "contract": "k-c" + contract,
                "product": pl.Series(["tokens"] * self.count),
                "meter": pl.Series(["tokens"] * self.count),
                "dimensions": dims.gather((number % 5).to_list()),
                "timing": pl.Series(["arrears"] * self.count),
                "period_start": pl.Series([SINCE]).new_from_index(0, self.count),
                "period_end": pl.Series([UNTIL]).new_from_index(0, self.count),
                "currency": pl.Series(["USD"] * self.count),
                "nanos": pl.Series(random.integers(1, 10**15, self.count)),
                "amount": pl.Series(random.integers(1, 10**7, self.count)).cast(pl.Decimal(38, 0)),
                "kind": pl.Series(["usage"] * self.count),
                "status": pl.Series(["open"] * self.count),
                "event_count": pl.Series(random.integers(1, 10**5, self.count)),
                "price_version": pl.Series(["0f3a9c2d4b5e6f70"] * self.count),
            }
        ).with_columns(quantity=units, adjusts=pl.lit(None), cause=pl.lit(None))
        return sorted_lines(made.select(pl.col(name).cast(of) for name, of in LINES.items()))

    def ours(self, form: str) -> float:
        """Lines a second: the checksum that the headers carry, then the stream, into a file."""
        began_s = time.perf_counter()
        checksum(self.lines)
        with (self.directory / f"ours.{form}").open("wb") as file:
            for part in CHUNKS[form](self.lines):
                file.write(part)
        return self.count / (time.perf_counter() - began_s)

    def theirs(self, form: str) -> float:
        """Lines a second by COPY, on two threads, from the same columns in memory."""
        with duckdb.connect(config={"threads": 2}) as connection:
            connection.register("lines", self.lines.to_arrow())
            began_s = time.perf_counter()
            path = self.directory / f"theirs.{form}"
            connection.execute(f"COPY (SELECT * FROM lines) TO '{path}' ({COPY[form]})")
            return self.count / (time.perf_counter() - began_s)

    def check(self, form: str) -> None:
        """Fail unless both files hold the same rows, as DuckDB reads them.

        Raises:
            BenchFailed: they do not.
        """
        self.ours(form)
        self.theirs(form)
        columns = "count(*), sum(quantity::DECIMAL(38,9)), sum(amount::DECIMAL(38,6)), "
        columns += (
            "sum(event_count), count(DISTINCT line_id), min(epoch_us(period_start::TIMESTAMPTZ))"
        )
        with duckdb.connect() as connection:
            read = [
                connection.sql(f"SELECT {columns} FROM '{self.directory}/{side}.{form}'").fetchall()
                for side in ("ours", "theirs")
            ]
        expect(f"rows of the {form}", seen=read[0], wanted=read[1])
        expect("number of rows", seen=read[0][0][0], wanted=self.count)
