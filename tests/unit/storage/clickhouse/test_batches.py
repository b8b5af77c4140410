"""Batches: what one insert holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from catalog.ids import NodeId, Seq
from storage.clickhouse.batches import EVENTS, FACTS, Batch, Table, cut, insertable
from tests.logs_in_memory import T0, MemoryTail, event, heartbeat


def test_a_batch_holds_its_rows_and_one_marker():
    """The marker says the range and how many rows belong to it; it is there without rows too."""
    batch = Batch(
        table=Table.FACTS,
        node=NodeId("n1"),
        first=Seq(3),
        last=Seq(9),
        received_at=1_800_000_000_000_000,
        rows=FACTS.to_frame(),
        specs=("b", "a"),
    )
    [marker] = insertable(batch).to_dicts()
    expected = {"marker": True, "node": "n1", "first_seq": 3, "last_seq": 9, "batch_rows": 0}
    assert expected.items() <= marker.items()
    assert marker["specs"] == ["a", "b"]
    assert batch.token.startswith("facts-n1-3-9-")


def test_records_are_cut_at_the_month_of_receipt():
    """Of two months only the first is taken."""
    tail = MemoryTail(start=datetime(2026, 11, 30, 23, 59, 58, tzinfo=UTC))
    tail.append(event(), event(), heartbeat())
    assert cut(tail.records)["seq"].to_list() == [1]
    assert cut(tail.records[1:])["seq"].to_list() == [2, 3]


def test_records_are_cut_by_bytes_but_never_to_nothing():
    """A single event larger than the limit still goes."""
    tail = MemoryTail()
    tail.append(*(event("x" * size) for size in (100, 10, 10, 10)))
    assert cut(tail.records, bytes_max=15).height == 1
    assert cut(tail.records[1:], bytes_max=25).height == 2
    assert cut(tail.records, bytes_max=1000).height == 4
    assert cut(tail.records.clear()).height == 0


def test_rows_keep_the_schema():
    """An events batch has exactly the columns of the table."""
    tail = MemoryTail()
    tail.append(event(), received_at=T0 + timedelta(days=1))
    rows = tail.records.with_columns(node=pl.lit("n1"))
    batch = Batch(
        table=Table.EVENTS, node=NodeId("n1"), first=Seq(1), last=Seq(1), received_at=0, rows=rows
    )
    made = insertable(batch)
    assert [*EVENTS, "marker", "first_seq", "last_seq", "batch_rows", "specs"] == made.columns
    assert made["marker"].to_list() == [False, True]
