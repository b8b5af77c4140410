"""Facts aggregated where they are: by ClickHouse."""

from __future__ import annotations

import polars as pl

from catalog.clock import Micros
from catalog.errors import OutOfRange
from catalog.events import FACTS, INSTANT
from rating.ports import EXTREMES, SUMS
from storage.clickhouse.client import ClickHouse

SUM_LIMIT = 10**18

COUNTED = """
    NOT f.marker AND f.received_at <= fromUnixTimestamp64Micro({as_of:Int64}, 'UTC')
    AND f.spec IN {specs:Array(String)}
    AND f.time >= fromUnixTimestamp64Micro({earliest:Int64}, 'UTC')
    AND f.time < fromUnixTimestamp64Micro({latest:Int64}, 'UTC')
    AND (f.node, f.seq) NOT IN
        (SELECT target_node, target_seq FROM voids
         WHERE NOT marker AND received_at <= fromUnixTimestamp64Micro({as_of:Int64}, 'UTC'))
"""
JOINED = f"""
    FROM facts AS f INNER JOIN spans AS s ON f.spec = s.spec AND f.subject = s.subject
    WHERE f.time >= s.start AND f.time < s.end AND {COUNTED}
"""
ANYONE = f"""
    FROM facts AS f INNER JOIN spans AS s ON f.spec = s.spec
    WHERE s.subject IS NULL AND f.time >= s.start AND f.time < s.end AND {COUNTED}
"""
SUMMED = "s.span AS span, f.dimensions AS dimensions, f.value AS value"
SUMS_SQL = """
SELECT span, dimensions, CAST(ifNull(sum(toDecimal256(value, 9)), 0) AS Decimal(38, 9)) AS sum,
       toInt64(count()) AS count
FROM ({inner}) GROUP BY span, dimensions
"""
EXTREMES_SQL = SUMS_SQL.replace(
    " AS count", " AS count, toInt64(count(value)) AS valued, min(value) AS low, max(value) AS high"
)
# Decimal(38, 9) sums wrap unseen in ClickHouse; 256 bits cannot, and the cast back raises.


class ClickHouseFacts:
    """:class:`rating.ports.FactSource` over the tables ``facts`` and ``voids``."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of ``spans``: see :class:`rating.ports.FactSource`."""
        if spans.is_empty():
            return SUMS.to_frame()
        rows = self._run(SUMS_SQL.replace("{inner}", _inner(SUMMED, spans)), spans, as_of)
        rows = rows.select(list(SUMS)).cast(SUMS)
        beyond = rows.filter(pl.col("sum").abs() >= SUM_LIMIT)
        if beyond.height:
            span, dimensions = beyond.row(0)[:2]
            raise OutOfRange(f"the usage of span {span} {dimensions} has over 18 digits")
        return rows

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of ``spans``: see :class:`rating.ports.FactSource`."""
        if spans.is_empty():
            return EXTREMES.to_frame()
        rows = self._run(EXTREMES_SQL.replace("{inner}", _inner(SUMMED, spans)), spans, as_of)
        return rows.select(list(EXTREMES)).cast(EXTREMES)

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span``: see :class:`rating.ports.FactSource`."""
        schema = pl.Schema({**FACTS, "span": pl.Int64()})
        if spans.is_empty():
            return schema.to_frame().lazy()
        columns = ", ".join(f"f.{name} AS {name}" for name in FACTS) + ", s.span AS span"
        rows = self._run(_inner(columns, spans), spans, as_of)
        return rows.select(list(schema)).cast(schema).lazy()

    def _run(self, sql: str, spans: pl.DataFrame, as_of: Micros) -> pl.DataFrame:
        edges = spans.select(pl.col("start").min(), pl.col("end").max())
        earliest, latest = edges.cast(INSTANT).select(pl.all().to_physical()).row(0)
        parameters = {
            "as_of": as_of,
            "specs": spans["spec"].unique().sort().to_list(),
            "earliest": earliest,
            "latest": latest,
        }
        return self._clickhouse.query(sql, parameters, lent={"spans": spans})


def _inner(columns: str, spans: pl.DataFrame) -> str:
    parts = [f"SELECT {columns} {JOINED}"]
    if spans["subject"].null_count():
        parts.append(f"SELECT {columns} {ANYONE}")
    return " UNION ALL ".join(parts)
