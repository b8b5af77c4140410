"""One behaviour for every FactSource: the same totals to the last digit, wherever facts are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import polars as pl
import pytest

from catalog.clock import Micros, to_micros
from catalog.errors import OutOfRange
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, Seq, SpecId
from rating.cuts import Cuts
from rating.ports import EXTREMES, SPANS, SUMS, FactSource
from storage.clickhouse.batches import Batch, Table
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.facts import ClickHouseFacts
from storage.clickhouse.store import ClickHouseStore
from storage.memory.facts import MemoryFactSource
from storage.parquet.cells.source import CellSource
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import VOIDS_KEY, ParquetFacts
from tests.clickhouse_front import front

T0 = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATE = Micros(to_micros(T0) + 10**12)
BIG = Decimal("99999999999999999.999999999")
COUNTER = iter(range(10**6))


class MakeSource(Protocol):
    """Builds a source that holds the given facts and voids."""

    def __call__(self, facts: pl.DataFrame, voids: pl.DataFrame) -> FactSource:
        """The source."""
        ...


def fact(seq: int, *, subject="acme", value="1", **given: object) -> dict:
    """One fact of spec ``s`` on node ``n1``, an hour a seq after T0, received a day later."""
    row = {
        "node": "n1",
        "seq": seq,
        "spec": "s",
        "subject": subject,
        "time": T0 + seq * HOUR,
        "received_at": T0 + timedelta(days=1) + seq * HOUR,
        "value": None if value is None else Decimal(value),
        "text": None,
        "dimensions": "{}",
    }
    return row | given


def void(seq: int, target: int, *, cause="void", received_at: datetime) -> dict:
    """One compensation on node ``n1``."""
    return {
        "node": "n1",
        "seq": seq,
        "received_at": received_at,
        "target_node": "n1",
        "target_seq": target,
        "cause": cause,
    }


def span(number=1, *, subject: str | None = "acme", spec="s", start=T0, hours=1000) -> dict:
    """One span of spec ``s`` from ``start`` on."""
    end = start + hours * HOUR
    return {"span": number, "spec": spec, "subject": subject, "start": start, "end": end}


def spans(*rows: dict) -> pl.DataFrame:
    """SPANS of the given rows."""
    return pl.DataFrame(list(rows), schema=SPANS)


def sums(source: FactSource, *rows: dict, as_of: int = LATE) -> set[tuple]:
    """The SUMS of a source as a set of rows."""
    frame = source.sums(spans(*rows), as_of=Micros(as_of))
    assert frame.schema == SUMS
    return set(frame.rows())


def in_memory(facts: pl.DataFrame, voids: pl.DataFrame) -> FactSource:
    """The reference."""
    return MemoryFactSource(facts, voids)


def ranges(rows: pl.DataFrame, node: str) -> tuple[pl.DataFrame, int, int]:
    """The rows of one node, the seq that halves them and the last."""
    own = rows.filter(pl.col("node") == node)
    last = max([*own["seq"].to_list(), 2])
    return own, last // 2, last


def in_parquet(directory: Path) -> MakeSource:
    """Half of every node's facts in a sealed file, half in the tail."""

    def make(facts: pl.DataFrame, voids: pl.DataFrame) -> FactSource:
        store = ParquetFacts(directory / str(next(COUNTER)))
        for spec in [*facts["spec"].unique(), VOIDS_KEY]:
            whole = voids if spec == VOIDS_KEY else facts.filter(pl.col("spec") == spec)
            for node in whole["node"].unique():
                key, own = SpecId(spec), ranges(whole, node)
                rows, half, last = own
                store.extend(key, NodeId(node), last=Seq(last), rows=rows)
                sealed = store.tail_until(key, NodeId(node), last=Seq(half))
                store.seal(key, NodeId(node), last=Seq(half), rows=sealed)
        return store

    return make


def in_cells(directory: Path) -> MakeSource:
    """The same, the sealed half in cells as well."""

    def make(facts: pl.DataFrame, voids: pl.DataFrame) -> FactSource:
        store = in_parquet(directory)(facts, voids)
        assert isinstance(store, ParquetFacts)
        cells = ParquetCells(directory / f"cells-{next(COUNTER)}", store)
        for spec in facts["spec"].unique():
            for node in facts["node"].unique():
                while (file := cells.due(spec, node)) is not None:
                    cells.extend(spec, file, Cuts())
        return CellSource(cells, store, Cuts)

    return make


def in_clickhouse(address: Address) -> MakeSource:
    """Every node's facts in two batches, in a database of its own."""

    def make(facts: pl.DataFrame, voids: pl.DataFrame) -> FactSource:
        database = f"facts_{uuid4().hex}"  # other tests import this, with a counter of their own
        given = Address(path=address.path, url=address.url, database=database)
        clickhouse = ClickHouse(given)
        store = ClickHouseStore(clickhouse)
        store.prepare()
        for table, whole in ((Table.FACTS, facts), (Table.VOIDS, voids)):
            specs = tuple(whole["spec"].unique()) if table is Table.FACTS else ()
            for node in whole["node"].unique():
                rows, half, last = ranges(whole, node)
                for first, until in ((1, half), (half + 1, last)):
                    part = rows.filter(pl.col("seq").is_between(first, until))
                    store.append(
                        Batch(
                            table=table,
                            node=NodeId(node),
                            first=Seq(first),
                            last=Seq(until),
                            received_at=to_micros(T0),
                            rows=part,
                            specs=specs,
                        )
                    )
        return ClickHouseFacts(clickhouse)

    return make


@pytest.fixture(scope="module")
def front_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A front over HTTP, one for the module."""
    with front(tmp_path_factory.mktemp("front")) as running:
        yield running.url


@pytest.fixture(params=["memory", "parquet", "cells", "chdb", "http"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSource:
    """Each adapter in turn."""
    if request.param == "memory":
        return in_memory
    if request.param == "parquet":
        return in_parquet(tmp_path)
    if request.param == "cells":
        return in_cells(tmp_path)
    if request.param == "chdb":
        return in_clickhouse(Address(path=request.getfixturevalue("chdb_path")))
    return in_clickhouse(Address(url=request.getfixturevalue("front_url")))


def source_of(make: MakeSource, facts: list[dict], voids: list[dict] | None = None) -> FactSource:
    """A source that holds the given rows."""
    return make(pl.DataFrame(facts, schema=FACTS), pl.DataFrame(voids or [], schema=VOIDS))


def test_sums_are_exact_to_the_last_digit(make: MakeSource):
    """Values at the edge of what is promised add up without losing a digit."""
    facts = [fact(1, value=BIG), fact(2, value=BIG), fact(3, value="-0.000000001")]
    total = BIG * 2 - Decimal("0.000000001")
    assert {(1, "{}", total, 3)} == sums(source_of(make, facts), span())


def test_a_sum_beyond_the_promise_is_refused(make: MakeSource):
    """A sum of 10^18 is out of range, never wrapped or rounded."""
    source = source_of(make, [fact(n, value="99999999999999999.999999999") for n in range(1, 12)])
    with pytest.raises(OutOfRange):
        source.sums(spans(span()), as_of=LATE)


def test_spans_are_half_open_in_event_time(make: MakeSource):
    """A fact at a span's start is in it, one at its end is not."""
    source = source_of(make, [fact(1), fact(2), fact(3)])
    bounded = span(start=T0 + HOUR, hours=2)
    assert {(1, "{}", Decimal(2), 2)} == sums(source, bounded)


def test_open_spans_hold_everything(make: MakeSource):
    """Bounds far before and after every event are as good as none."""
    source = source_of(make, [fact(1)])
    earliest, latest = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
    endless = {"span": 1, "spec": "s", "subject": "acme", "start": earliest, "end": latest}
    assert {(1, "{}", Decimal(1), 1)} == sums(source, endless, endless | {"span": 2}) - {
        (2, "{}", Decimal(1), 1)
    }


def test_the_same_fact_may_be_in_many_spans(make: MakeSource):
    """Spans overlap freely, and each subject of a span adds to it."""
    source = source_of(make, [fact(1), fact(2, subject="beta", value="2"), fact(3, subject="x")])
    rows = [span(1), span(1, subject="beta"), span(2, subject="beta")]
    assert {(1, "{}", Decimal(3), 2), (2, "{}", Decimal(2), 1)} == sums(source, *rows)


def test_a_span_without_subject_is_whoever_used_it(make: MakeSource):
    """A null subject takes every subject of the spec, and no other spec's facts."""
    facts = [fact(1), fact(2, subject="beta"), fact(3, spec="other", value="7")]
    source = source_of(make, facts)
    assert {(1, "{}", Decimal(2), 2), (2, "{}", Decimal(7), 1)} == sums(
        source, span(1, subject=None), span(2, subject=None, spec="other")
    )


def test_missing_values_count_and_add_nothing(make: MakeSource):
    """A fact without a value is a fact; the sum of none is zero."""
    source = source_of(make, [fact(1, value=None), fact(2, value=None, dimensions='{"m":"x"}')])
    expected = {(1, "{}", Decimal(0), 1), (1, '{"m":"x"}', Decimal(0), 1)}
    assert expected == sums(source, span())


def test_extremes_know_the_smallest_and_largest_and_how_many_have_a_value(make: MakeSource):
    """Void ones count no more, so that the largest may shrink; of none there is neither."""
    at = T0 + timedelta(days=3)
    values = ("-1.5", "7", BIG, None)
    facts = [fact(n, value=value) for n, value in enumerate(values, start=1)]
    source = source_of(make, [*facts, fact(5, value=None, dimensions='{"m":"x"}')],
                       [void(9, 3, received_at=at)])  # fmt: skip
    before, after = Micros(to_micros(at) - 1), to_micros(at)
    nothing = (1, '{"m":"x"}', Decimal(0), 1, 0, None, None)
    first = (1, "{}", BIG + Decimal("5.5"), 4, 3, Decimal("-1.5"), BIG)
    then = (1, "{}", Decimal("5.5"), 3, 2, Decimal("-1.5"), Decimal(7))
    for as_of, expected in ((before, {first, nothing}), (after, {then, nothing})):
        frame = source.extremes(spans(span()), as_of=as_of)
        assert frame.schema == EXTREMES
        assert set(frame.rows()) == expected
    assert source.extremes(spans(), as_of=LATE).is_empty()


def test_sums_are_kept_apart_by_dimensions(make: MakeSource):
    """Every full combination of dimensions is a row of its own."""
    east, west = '{"m":"é","r":"east"}', '{"m":"é","r":"west"}'
    facts = [fact(n, dimensions=east if n % 2 else west, value=n) for n in range(1, 6)]
    expected = {(1, east, Decimal(9), 3), (1, west, Decimal(6), 2)}
    assert expected == sums(source_of(make, facts), span())


def test_a_void_counts_from_its_own_receipt_on(make: MakeSource):
    """An earlier as_of still sees the event; the instant of the void itself does not."""
    at = T0 + timedelta(days=3)
    source = source_of(make, [fact(1), fact(2)], [void(9, 1, received_at=at)])
    before, after = to_micros(at) - 1, to_micros(at)
    assert {(1, "{}", Decimal(2), 2)} == sums(source, span(), as_of=before)
    assert {(1, "{}", Decimal(1), 1)} == sums(source, span(), as_of=after)


def test_a_compensation_names_its_event_by_node_and_seq(make: MakeSource):
    """The same seq on another node still counts, and a second compensation changes nothing."""
    at = T0 + timedelta(days=3)
    facts = [fact(1), fact(1, node="n2", value="5")]
    voids = [void(8, 1, received_at=at), void(9, 1, cause="collapsed", received_at=at)]
    assert {(1, "{}", Decimal(5), 1)} == sums(source_of(make, facts, voids), span())


def test_as_of_is_the_receipt_not_the_event_time(make: MakeSource):
    """What was received after as_of is not there yet, at its own instant it is."""
    received = T0 + timedelta(days=1) + 2 * HOUR
    source = source_of(make, [fact(1), fact(2), fact(3)])
    assert {(1, "{}", Decimal(2), 2)} == sums(source, span(), as_of=to_micros(received))
    assert {(1, "{}", Decimal(1), 1)} == sums(source, span(), as_of=to_micros(received) - 1)


def test_facts_come_whole_with_their_span(make: MakeSource):
    """Each fact is returned as it was stored, once for each span that holds it."""
    kept = fact(1, text='"ü"', value=None, dimensions='{"a":"b"}')
    at = T0 + timedelta(days=2)
    source = source_of(make, [kept, fact(2)], [void(7, 2, received_at=at)])
    rows = source.facts(spans(span(4), span(5, subject=None)), as_of=LATE).collect()
    assert set(FACTS) | {"span"} == set(rows.columns)
    assert [kept | {"span": 4}, kept | {"span": 5}] == rows.sort("span").to_dicts()


def test_no_spans_are_no_rows(make: MakeSource):
    """Asking for nothing, or for a spec that has no facts, answers nothing."""
    source = source_of(make, [fact(1)])
    assert set() == sums(source)
    assert set() == sums(source, span(spec="unknown"), span(subject="nobody"))
    assert source.facts(spans(), as_of=LATE).collect().is_empty()
