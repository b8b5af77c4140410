"""A million quantities through graduated and volume tiers: columns, a plain loop, and SQL."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import cached_property

import duckdb
import numpy as np
import polars as pl

from bench.gate import expect
from bench.rating.month import PERIOD
from bench.rating.world import TIERS, catalog
from catalog.charges import Graduated, Tier, Volume
from catalog.clock import Micros
from rating.pieces import PIECES, USAGE, Measured
from rating.plan import Accounted, plan_lines
from rating.planned import Planned
from rating.pricing import price_usage

CENT = Decimal("0.01")
BOUNDS = [(Decimal(t.get("up_to", 0)) or None, Decimal(t["unit_price"])) for t in TIERS]


@dataclass
class Quantities:
    """Half of them are priced by graduated tiers, the others by volume."""

    count: int

    @cached_property
    def usage(self) -> pl.DataFrame:
        """USAGE: line 0 is graduated, line 1 volume; every row a group of its own."""
        micros = np.random.default_rng(3).integers(1, 250_000 * 10**3, self.count) * 10**6
        return pl.DataFrame(
            {
                "line": np.arange(self.count) % 2,
                "dimensions": pl.Series(range(self.count)).cast(pl.String),
                "quantity": pl.Series(micros).cast(pl.Decimal(38, 9)) / Decimal(10**9),
                "divisor": np.ones(self.count, dtype=np.int64),
                "event_count": np.ones(self.count, dtype=np.int64),
                "rest": None,
            }
        ).cast(dict(USAGE))

    @cached_property
    def plans(self) -> Planned:
        """Two lines, one of each model."""
        tiers = tuple(Tier(up_to=up_to, unit_price=price) for up_to, price in BOUNDS)
        first = plan_lines(catalog(1), Accounted(PERIOD, Micros(2 * 10**15)))
        plain = next(p for p in first if p.terms.product == "egress")
        made = []
        for model in (Graduated, Volume):
            terms = replace(
                plain.terms, price=replace(plain.terms.price, charge=model(tiers=tiers))
            )
            made.append(replace(plain, part=replace(plain.part, terms=terms)))
        return Planned.of(made)

    def columns(self) -> tuple[float, pl.Series]:
        """Seconds, and the amounts in order."""
        measured = Measured(usage=self.usage, pieces=PIECES.to_frame(), charges=())
        began_s = time.perf_counter()
        priced = price_usage(self.plans, measured)
        elapsed_s = time.perf_counter() - began_s
        return elapsed_s, priced.sort(pl.col("dimensions").cast(pl.Int64))["amount"]

    def loop(self) -> tuple[float, pl.Series]:
        """What a person would write with ``decimal``."""
        units = self.usage["quantity"].to_list()
        with localcontext(Context(prec=60)):
            began_s = time.perf_counter()
            amounts = [_volume(u) if n % 2 else _graduated(u) for n, u in enumerate(units)]
            elapsed_s = time.perf_counter() - began_s
        return elapsed_s, pl.Series(amounts, dtype=pl.Decimal(38, 6))

    def sql(self) -> tuple[float, pl.Series]:
        """The same in DuckDB: tiers as a table, joined and added up; decimals as exact."""
        usage = self.usage.select("line", id=pl.int_range(pl.len()), units="quantity")
        low, rows = Decimal(0), []
        for up_to, price in BOUNDS:
            rows.append(
                f"({low}::DECIMAL(18,9), {up_to or 'NULL'}::DECIMAL(18,9), {price}::DECIMAL(18,12))"
            )
            low = up_to or low
        with duckdb.connect(config={"threads": 2}) as connection:
            connection.register("given", usage.to_arrow())
            connection.execute(
                "CREATE TABLE usage AS SELECT line, id, units::DECIMAL(18,9) AS units FROM given"
            )
            connection.execute(
                "CREATE TABLE tiers AS SELECT * FROM "
                f"(VALUES {', '.join(rows)}) t(low, high, price)"
            )
            began_s = time.perf_counter()
            made = connection.sql(SQL).pl()
            elapsed_s = time.perf_counter() - began_s
        return elapsed_s, made.sort("id")["amount"].cast(pl.Decimal(38, 6))

    def check(self) -> None:
        """Fail unless all three come to the same cents.

        Raises:
            BenchFailed: they do not.
        """
        ours = self.columns()[1]
        for name, found in (("decimal", self.loop()[1]), ("DuckDB", self.sql()[1])):
            expect(f"amounts as {name}'s", seen=ours.equals(found), wanted=True)


SQL = """
SELECT u.id, round(sum(CASE WHEN u.line = 0
         THEN (least(u.units, coalesce(t.high, u.units)) - t.low)::DECIMAL(18,9) * t.price
         ELSE u.units * t.price END), 2) AS amount
FROM usage u JOIN tiers t ON u.units > t.low
 AND (u.line = 0 OR t.high IS NULL OR u.units <= t.high)
GROUP BY u.id
"""


def _graduated(units: Decimal) -> Decimal:
    total, low = Decimal(0), Decimal(0)
    for up_to, price in BOUNDS:
        if units <= low:
            break
        top = units if up_to is None else min(units, up_to)
        total += (top - low) * price
        low = up_to or low
    return total.quantize(CENT, ROUND_HALF_UP)


def _volume(units: Decimal) -> Decimal:
    for up_to, price in BOUNDS:
        if up_to is None or units <= up_to:
            return (units * price).quantize(CENT, ROUND_HALF_UP)
    raise AssertionError("the last tier is open")
