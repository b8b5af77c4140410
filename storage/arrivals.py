"""Who had events come or go lately, for every place facts are in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.events import FACTS, INSTANT, VOIDS
from catalog.ids import SpecId
from invoicing.ports import Arrived
from storage.clickhouse.client import ClickHouse
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

SUBJECTS_PUSHED_MAX = 64
Live = Callable[[], Collection[SpecId]]
"""The specs that facts are kept for now. What others left behind says nothing: whether it is still
there depends on when a store was last rebuilt."""


class FrameArrivals:
    """:class:`invoicing.ports.Arrivals` over facts and compensations that can be scanned.

    ``facts`` gives FACTS, one scan a spec; ``voids`` gives VOIDS.
    """

    def __init__(
        self, *, facts: Callable[[], Iterable[pl.LazyFrame]], voids: Callable[[], pl.LazyFrame]
    ) -> None:
        self._facts = facts
        self._voids = voids

    def subjects(self, arrived: Arrived) -> frozenset[str]:
        """Subjects of events received in the interval, or compensated in it."""
        gone = (
            self._voids()
            .filter(_within(arrived))
            .select(node="target_node", seq="target_seq")
            .unique()
            .collect()
        )
        parts = []
        for facts in self._facts():
            mine = facts.filter(_matters(arrived))
            parts.append(mine.filter(_within(arrived)).select("subject").unique())
            if gone.height:
                near = mine.filter(pl.col("seq").is_between(gone["seq"].min(), gone["seq"].max()))
                hit = near.join(gone.lazy(), on=["node", "seq"], how="semi")
                parts.append(hit.select("subject").unique())
        if not parts:
            return frozenset()
        found = pl.concat(parts).unique().collect(engine="streaming")
        return frozenset(found["subject"])


def parquet_arrivals(facts: ParquetFacts, *, specs: Live) -> FrameArrivals:
    """Arrivals from Parquet facts of ``specs`` and their tail in memory."""

    def scans() -> Iterable[pl.LazyFrame]:
        live = specs()
        return (facts.scan(key) for key in facts.keys if key in live)

    return FrameArrivals(facts=scans, voids=lambda: facts.scan(VOIDS_KEY))


def memory_arrivals(facts: pl.DataFrame, voids: pl.DataFrame | None = None) -> FrameArrivals:
    """Arrivals from two frames."""
    gone = VOIDS.to_frame() if voids is None else voids
    held = facts.select(list(FACTS)).cast(FACTS)
    return FrameArrivals(facts=lambda: [held.lazy()], voids=gone.lazy)


ARRIVED_SQL = """
SELECT DISTINCT subject FROM facts
WHERE NOT marker AND spec IN {specs:Array(String)}
  AND (time < fromUnixTimestamp64Micro({before:Int64}, 'UTC')
       OR has({always:Array(String)}, subject))
  AND ({anyone:Bool} OR has({among:Array(String)}, subject))
  AND ((received_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC')
        AND received_at <= fromUnixTimestamp64Micro({upto:Int64}, 'UTC'))
       OR (node, seq) IN
          (SELECT target_node, target_seq FROM voids
           WHERE NOT marker AND received_at > fromUnixTimestamp64Micro({after:Int64}, 'UTC')
             AND received_at <= fromUnixTimestamp64Micro({upto:Int64}, 'UTC')))
"""


class ClickHouseArrivals:
    """:class:`invoicing.ports.Arrivals` over the tables ``facts`` and ``voids``."""

    def __init__(self, clickhouse: ClickHouse, *, specs: Live) -> None:
        """Facts of ``specs`` count."""
        self._clickhouse = clickhouse
        self._specs = specs

    def subjects(self, arrived: Arrived) -> frozenset[str]:
        """Subjects of events received in the interval, or compensated in it."""
        parameters = {
            "specs": sorted(self._specs()),
            "after": arrived.after,
            "upto": arrived.upto,
            "before": arrived.before,
            "always": sorted(arrived.always),
            "anyone": arrived.among is None,
            "among": sorted(arrived.among or ()),
        }
        return frozenset(self._clickhouse.query(ARRIVED_SQL, parameters)["subject"].to_list())


def _within(arrived: Arrived) -> pl.Expr:
    received = pl.col("received_at")
    return (received > _moment(arrived.after)) & (received <= _moment(arrived.upto))


def _matters(arrived: Arrived) -> pl.Expr:
    subject = pl.col("subject")
    found = pl.col("time") < _moment(arrived.before)
    if arrived.always:
        found |= subject.is_in(_names(arrived.always))
    if arrived.among is not None:
        few = len(arrived.among) <= SUBJECTS_PUSHED_MAX
        names = sorted(arrived.among) if few else _names(arrived.among)
        found &= subject.is_in(names)
    return found


def _names(names: frozenset[str]) -> pl.Series:
    return pl.Series(sorted(names), dtype=pl.String()).implode()


def _moment(instant: Micros) -> pl.Expr:
    return pl.lit(to_datetime(instant), INSTANT)
