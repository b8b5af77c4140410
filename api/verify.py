"""``tallyman verify``: every derived copy against the log, the log against its manifests.

Plain dependencies in, a :class:`Report` out: the same function answers the running service's
route and works offline on a data directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from api.checks.cells import check_cells
from api.checks.derived import (
    Comparison,
    Stretch,
    by_position,
    check_derived,
    events_expected,
    facts_expected,
    voids_expected,
)
from api.checks.report import Check, Report
from api.checks.segments import check_segments
from api.readers.base import Tail
from catalog.errors import Unavailable
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from storage.clickhouse.batches import Table
from storage.clickhouse.rows import ClickHouseRows
from storage.clickhouse.store import ClickHouseStore
from storage.log.frames import LogCorrupt
from storage.parquet.cells.store import ParquetCells
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

MoreChecks = Callable[[], Iterable[Check]]
"""Checks that others bring: balances with a recount, closed lines with invoices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What is verified. ``logs`` maps every node to its directory and a follower of its own."""

    logs: Mapping[NodeId, tuple[Path, Tail]]
    specs: Mapping[SpecId, FactSpec]
    facts: ParquetFacts | None = None
    cells: ParquetCells | None = None
    clickhouse: ClickHouseStore | None = None
    more: Sequence[MoreChecks] = field(default=())


def verify(subject: Verification, *, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Make every check. A store that does not answer is a failed check, not an error.

    ``progress`` is called with the number of log records just compared.
    """
    checks: list[Check] = []
    for node, (directory, tail) in subject.logs.items():
        checks.append(check_segments(directory, node))
        for store, comparisons in _comparisons(subject, node):
            checks.extend(_made(store, node, comparisons, tail, progress))
        if subject.cells is not None and subject.facts is not None:
            checks.append(check_cells(subject.cells, subject.facts, subject.specs, node=node))
    for more in subject.more:
        checks.extend(more())
    return Report(checks=checks)


def _made(
    store: str,
    node: NodeId,
    comparisons: Callable[[], Iterable[Comparison]],
    tail: Tail,
    progress: Callable[[int], None],
) -> Iterator[Check]:
    made = Check.well("derived", store, node, "")
    try:
        for comparison in comparisons():
            yield check_derived(comparison, tail, progress=progress)
    except (Unavailable, LogCorrupt) as error:
        yield made.unavailable(error.detail)
    except (OSError, pl.exceptions.PolarsError) as error:
        yield made.differs(None, f"what is stored cannot be read: {error}")


def _comparisons(
    subject: Verification, node: NodeId
) -> Iterator[tuple[str, Callable[[], Iterable[Comparison]]]]:
    facts, clickhouse = subject.facts, subject.clickhouse
    if facts is not None:
        yield "facts", lambda: _with_parquet(facts, node, subject.specs)
    if clickhouse is not None:
        yield "clickhouse", lambda: _with_clickhouse(clickhouse, node, subject.specs)


def _with_parquet(
    facts: ParquetFacts, node: NodeId, specs: Mapping[SpecId, FactSpec]
) -> Iterator[Comparison]:
    yield Comparison(
        check="voids",
        store="facts",
        node=node,
        until=facts.state(VOIDS_KEY, node).reached,
        expected=voids_expected(node),
        stored=lambda s: facts.rows(VOIDS_KEY, s.node, first=s.first, last=s.last),
    )
    positions = {key: facts.state(key, node).reached for key in specs}
    for until, level in by_position(positions, specs).items():
        yield Comparison(
            check="facts",
            store="facts",
            node=node,
            until=until,
            expected=facts_expected(node, level),
            stored=lambda s, level=level: _parquet_rows(facts, level, s),
        )


def _parquet_rows(facts: ParquetFacts, specs: Sequence[FactSpec], stretch: Stretch) -> pl.DataFrame:
    first, last = stretch.first, stretch.last
    return pl.concat(facts.rows(s.id, stretch.node, first=first, last=last) for s in specs)


def _with_clickhouse(
    store: ClickHouseStore, node: NodeId, specs: Mapping[SpecId, FactSpec]
) -> Iterator[Comparison]:
    rows = ClickHouseRows(store.clickhouse)
    expected = {Table.EVENTS: events_expected, Table.VOIDS: voids_expected(node)}
    for table, expecting in expected.items():
        reached = store.positions(table).get((node, ""))
        yield Comparison(
            check=str(table),
            store="clickhouse",
            node=node,
            until=reached.seq if reached else Seq(0),
            expected=expecting,
            stored=lambda s, table=table: rows.read(table, s.node, first=s.first, last=s.last),
        )
    known = store.positions(Table.FACTS)
    positions = {key: known[node, key].seq for key in specs if (node, key) in known}
    for until, level in by_position(positions, specs).items():
        names = [spec.id for spec in level]
        yield Comparison(
            check="facts",
            store="clickhouse",
            node=node,
            until=until,
            expected=facts_expected(node, level),
            stored=lambda s, names=names: rows.read(
                Table.FACTS, s.node, first=s.first, last=s.last, specs=names
            ),
        )
