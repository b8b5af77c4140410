"""Looking events up: support's first question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros
from catalog.ids import NodeId
from storage.clickhouse.batches import EVENTS
from storage.clickhouse.client import ClickHouse

FOUND = pl.Schema({**EVENTS, "void_cause": pl.String(), "void_at": pl.Datetime("us", "UTC")})
"""EVENTS plus what took the event out (``void`` or ``collapsed``) and when; nulls: it counts."""

PAGE = """
SELECT {columns}, nullIf(v.cause, '') AS void_cause,
       if(v.cause = '', NULL, toNullable(v.since)) AS void_at
FROM (SELECT {columns} FROM events AS e WHERE NOT e.marker AND {where} {order} LIMIT {limit}) AS e
LEFT JOIN
    (SELECT x.target_node AS target_node, x.target_seq AS target_seq,
            argMin(x.cause, x.received_at) AS cause, min(x.received_at) AS since
     FROM voids AS x WHERE NOT x.marker GROUP BY target_node, target_seq) AS v
    ON e.node = v.target_node AND e.seq = v.target_seq
{order}
"""
COPIES_MAX = 100
NEWEST_FIRST = "ORDER BY e.time DESC, e.node DESC, e.seq DESC"
INSTANT_OF = "fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events: nulls do not restrict, ``[since, until)`` bounds event time."""

    subject: str | None = None
    type: str | None = None
    since: Micros | None = None
    until: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlace:
    """Where a page ended: the next begins after it (earlier in time)."""

    time: Micros
    node: NodeId
    seq: int


class ClickHouseEvents:
    """Events as they were received, newest event time first."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def page(
        self, query: EventQuery, *, limit: int, after: EventPlace | None = None
    ) -> pl.DataFrame:
        """At most ``limit`` FOUND rows that match, after ``after``."""
        conditions, parameters = ["1"], dict[str, object]()
        for name in ("subject", "type"):
            if (value := getattr(query, name)) is not None:
                conditions.append(f"e.{name} = {{{name}:String}}")
                parameters[name] = value
        for name, operator in (("since", ">="), ("until", "<")):
            if (value := getattr(query, name)) is not None:
                conditions.append(f"e.time {operator} {INSTANT_OF.format(name=name)}")
                parameters[name] = value
        if after is not None:
            place = INSTANT_OF.format(name="after_time")
            conditions.append(
                f"(e.time, e.node, e.seq) < ({place}, {{after_node:String}}, {{after_seq:Int64}})"
            )
            parameters |= {
                "after_time": after.time,
                "after_node": after.node,
                "after_seq": after.seq,
            }
        return self._run(" AND ".join(conditions), parameters, limit=limit)

    def find(self, *, source: str, event_id: str) -> pl.DataFrame:
        """FOUND rows of one identity, the copy that counts first; empty if never received."""
        where = "e.id = {id:String} AND e.source = {source:String}"
        rows = self._run(where, {"id": event_id, "source": source}, limit=COPIES_MAX)
        return rows.sort("received_at", "node", "seq")

    def among(self, identities: pl.DataFrame, *, since: Micros | None) -> pl.DataFrame:
        """FOUND rows of many identities (``source``, ``id``), in no order.

        Args:
            identities: at least one.
            since: leave out what was received before; null: nothing.
        """
        # The set of ids is what the index by_id is asked with; the pair then decides.
        where = (
            "e.id IN (SELECT assumeNotNull(id) FROM wanted) AND (e.source, e.id) IN "
            "(SELECT assumeNotNull(source), assumeNotNull(id) FROM wanted)"
        )
        parameters: dict[str, object] = {}
        if since is not None:
            where += f" AND e.received_at >= {INSTANT_OF.format(name='since')}"
            parameters["since"] = since
        limit = identities.height * COPIES_MAX
        return self._run(where, parameters, limit=limit, lent={"wanted": identities})

    def _run(
        self,
        where: str,
        parameters: dict[str, object],
        *,
        limit: int,
        lent: Mapping[str, pl.DataFrame] | None = None,
    ) -> pl.DataFrame:
        columns = ", ".join(f"e.{name} AS {name}" for name in EVENTS)
        sql = PAGE.replace("{columns}", columns).replace("{where}", where)
        sql = sql.replace("{order}", NEWEST_FIRST).replace("{limit}", str(int(limit)))
        rows = self._clickhouse.query(sql, parameters, lent=lent)
        return rows.select(list(FOUND)).cast(FOUND)
