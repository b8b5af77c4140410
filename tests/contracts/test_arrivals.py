"""Every place facts are in names the same subjects that had events come or go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import cast

import polars as pl
import pytest

from catalog.clock import Micros, to_micros
from catalog.events import FACTS, VOIDS
from catalog.ids import SpecId
from invoicing.ports import Arrivals, Arrived
from storage.arrivals import ClickHouseArrivals, memory_arrivals, parquet_arrivals
from storage.clickhouse.client import Address
from storage.clickhouse.facts import ClickHouseFacts
from storage.parquet.facts import ParquetFacts
from tests.contracts.test_fact_source import T0, fact, in_clickhouse, in_parquet, void

DAY = timedelta(days=1)


def moment(days: int) -> Micros:
    """So many days after T0."""
    return to_micros(T0 + days * DAY)


def live() -> set[SpecId]:
    """The specs that facts are kept for."""
    return {SpecId("s")}


@pytest.fixture(params=["memory", "parquet", "chdb"])
def arrivals(request: pytest.FixtureRequest, tmp_path: Path) -> Arrivals:
    """Facts of s1 to s4 received on days 1 to 4, as they happened; s1's is void on day 9."""
    rows = [
        fact(n, subject=f"s{n}", time=T0 + n * DAY, received_at=T0 + n * DAY) for n in range(1, 5)
    ]
    if request.param != "memory":  # what an earlier version left behind
        late = T0 + 5 * DAY
        rows.append(fact(5, subject="s5", time=late, received_at=late) | {"spec": "dead"})
    facts = pl.DataFrame(rows, schema=FACTS)
    voids = pl.DataFrame([void(20, 1, received_at=T0 + 9 * DAY)], schema=VOIDS)
    if request.param == "memory":
        return memory_arrivals(facts, voids)
    if request.param == "parquet":
        return parquet_arrivals(
            cast("ParquetFacts", in_parquet(tmp_path)(facts, voids)), specs=live
        )
    made = in_clickhouse(Address(path=request.getfixturevalue("chdb_path")))(facts, voids)
    return ClickHouseArrivals(cast("ClickHouseFacts", made)._clickhouse, specs=live)


@pytest.mark.parametrize(
    ("after", "upto", "before", "more", "expected"),
    [
        (0, 30, 30, {}, {"s1", "s2", "s3", "s4"}),
        (2, 3, 30, {}, {"s3"}),
        (4, 30, 30, {}, {"s1"}),
        (4, 8, 30, {}, set()),
        (0, 30, 3, {}, {"s1", "s2"}),
        (0, 30, 3, {"always": frozenset({"s4"})}, {"s1", "s2", "s4"}),
        (0, 30, 30, {"among": frozenset({"s2", "x"})}, {"s2"}),
        (0, 30, 30, {"among": frozenset()}, set()),
    ],
)
def test_who_had_events_come_or_go(arrivals, after, upto, before, more, expected):
    """Received after and up to; voids count when they came; early, or always, or not asked for."""
    asked = Arrived(after=moment(after), upto=moment(upto), before=moment(before), **more)
    assert arrivals.subjects(asked) == expected
