"""A business of any size as the readers leave it: a catalog, and files of facts.

Ten thousand customers with a contract each, four pricebooks of mixed models, a quarter of the
contracts on New York's calendar. One month of events, in order of time, in sealed segments of one
node; every fact file is as :class:`storage.parquet.facts.ParquetFacts` writes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from catalog.changes import plan
from catalog.clock import Micros, to_micros
from catalog.events import FACTS, VOIDS
from catalog.grammar import parse_document
from catalog.history import Statement, build_catalog
from catalog.ids import NodeId, Seq, SpecId
from catalog.snapshot import Catalog
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

NODE = NodeId("n1")
MONTH = "2026-10"
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
SEGMENT_EVENTS = 1_000_000
DOCUMENT_CUSTOMERS = 49_000
SHARES = {"calls": 0.4, "tokens": 0.3, "egress": 0.2, "storage": 0.1}

METERS = {
    "calls": {"event_type": "api.call", "aggregation": "count"},
    "tokens": {
        "event_type": "llm.completion", "aggregation": "sum", "value": "data.tokens",
        "dimensions": {"model": "data.model", "region": "data.region"},
    },
    "egress": {"event_type": "net.egress", "aggregation": "sum", "value": "data.gb"},
    "storage": {"event_type": "disk.held", "aggregation": "max", "value": "data.gb"},
}  # fmt: skip

TIERS = [
    {"up_to": "1000", "unit_price": "0.01"}, {"up_to": "100000", "unit_price": "0.008"},
    {"unit_price": "0.005"},
]  # fmt: skip
MODELS = ("gpt-4", "gpt-4-mini", "haiku")
ROWS = [
    {"when": {"model": "gpt-4", "region": "*"}, "unit_price": "0.00003"},
    {"when": {"model": "*", "region": "eu"}, "unit_price": "0.0000045"},
    {"when": {"model": "*", "region": "*"}, "unit_price": "0.000003"},
]


def _prices(book: int) -> list[dict[str, Any]]:
    """Four books: the same products, priced by other models."""
    calls = [
        {"model": "per_unit", "unit_price": "0.002"},
        {"model": "graduated", "tiers": TIERS},
        {"model": "volume", "tiers": TIERS},
        {"model": "package", "size": "1000", "package_price": "1.50"},
    ][book]
    tokens: dict[str, Any] = {
        "product": "tokens",
        "charge": {"model": "per_unit", "unit_price": "0.000004"},
    }
    if book % 2:
        tokens = {"product": "tokens", "charge": {"model": "matrix", "rows": ROWS[:1] + ROWS[2:]}}
    elif book:
        tokens |= {"group_by": ["model"]}
    return [
        {"product": "platform", "charge": {"model": "flat", "amount": "99"}},
        {"product": "calls", "charge": calls, "included": "100"},
        tokens,
        {
            "product": "egress",
            "charge": {"model": "graduated" if book % 2 else "volume", "tiers": TIERS},
        },
        {"product": "storage", "charge": {"model": "per_unit", "unit_price": "0.12"}},
    ]


Pricing = Callable[[int], list[dict[str, Any]]]
"""The prices of a book, by its number."""


def tree(
    customers: range, start: str, prices: Pricing = _prices, far: str = "America/New_York"
) -> dict[str, Any]:
    """These customers and what they buy as a document; every contract begins on ``start``.

    A quarter of the contracts is on the calendar of ``far``.
    """
    names = {n: f"c{n:05d}" for n in customers}
    return {
        "meters": METERS,
        "products": {name: {"name": name, "meter": name} for name in METERS}
        | {"platform": {"name": "platform"}},
        "pricebooks": {
            f"b{b}": {
                "currency": "USD", "invoicing": {"timing": "arrears", "every_months": "1"},
                "prices": prices(b),
            }
            for b in range(4)
        },
        "customers": {c: {"name": c, "subjects": [f"s-{c}"]} for c in names.values()},
        "contracts": {
            f"k-{c}": {"customer": c, "pricebook": f"b{n % 4}", "start": start}
            | ({"timezone": far} if n % 4 == 3 else {})
            for n, c in names.items()
        },
    }  # fmt: skip


def catalog(
    customers: int,
    start: str = "2026-01-01",
    *,
    prices: Pricing = _prices,
    far: str = "America/New_York",
) -> Catalog:
    """The same as rating reads it, stated in documents as large as they may be."""
    statements: list[Statement] = []
    known = Catalog()
    for first in range(0, customers, DOCUMENT_CUSTOMERS):
        own = range(first, min(customers, first + DOCUMENT_CUSTOMERS))
        document = parse_document(tree(own, start, prices, far))
        made = plan(known, document, prune=False, unsupported=lambda _: []).statements
        statements += [
            Statement(
                revision=n, kind=new.kind, id=new.id, recorded_at=Micros(n), retired=new.retired,
                whole_chain=new.whole_chain, versions=new.versions,
            )
            for n, new in enumerate(made, start=len(statements) + 1)
        ]  # fmt: skip
        known = build_catalog(statements, timezone=ZoneInfo("UTC"))
    return known


@dataclass(frozen=True)
class Size:
    """How much there is."""

    events: int
    customers: int


def fill(directory: Path, size: Size, known: Catalog, *, seed: int = 5) -> ParquetFacts:
    """Write the month's facts, segment by segment; what is there already is kept.

    Facts of a spec that is no longer what it was are written anew beside the old ones.
    """
    store = ParquetFacts(directory / "facts")
    specs = {name: known.meters[name].last.fact_spec.id for name in METERS}
    segments = -(-size.events // SEGMENT_EVENTS)
    for number in range(segments):
        first = number * SEGMENT_EVENTS + 1
        last = min(size.events, first + SEGMENT_EVENTS - 1)
        due = [s for s in (*specs.values(), VOIDS_KEY) if store.state(s, NODE).sealed < last]
        if not due:
            continue
        random = np.random.default_rng(seed + number)
        for name, rows in _segment(random, (first, last), size).items():
            if specs[name] not in due:
                continue
            store.seal(
                SpecId(specs[name]),
                NODE,
                last=Seq(last),
                rows=rows.with_columns(spec=pl.lit(specs[name])).select(list(FACTS)),
            )
        if VOIDS_KEY in due:
            store.seal(VOIDS_KEY, NODE, last=Seq(last), rows=VOIDS.to_frame())
    return store


def _segment(
    random: np.random.Generator, log: tuple[int, int], size: Size
) -> dict[str, pl.DataFrame]:
    first, last = log
    count = last - first + 1
    length = to_micros(UNTIL) - to_micros(SINCE)
    places = np.arange(first - 1, last, dtype=np.int64)
    times = to_micros(SINCE) + (places * (length // size.events))
    which = random.choice(len(SHARES), count, p=list(SHARES.values()))
    who = random.integers(0, size.customers, count)
    nanos = random.integers(1, 10**7, count) * 10**6
    frame = pl.DataFrame(
        {
            "node": pl.repeat(NODE, count, eager=True),
            "seq": pl.Series(places + 1),
            "subject": pl.Series(who).cast(pl.String).str.zfill(5),
            "time": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "received_at": pl.Series(times + 2_000_000).cast(pl.Datetime("us", "UTC")),
            "units": pl.Series(nanos),
            "which": pl.Series(which),
            "group": pl.Series(random.integers(0, 6, count)),
        }
    ).with_columns(
        subject="s-c" + pl.col("subject"),
        text=pl.lit(None, pl.String),
        value=pl.col("units").cast(pl.Decimal(38, 0)).cast(pl.Decimal(38, 9)),
    )
    decimals = {"tokens": 0, "egress": 3, "storage": 3}
    dims = [f'{{"model":"{m}","region":"{r}"}}' for m in MODELS for r in ("eu", "us")]
    found = {}
    for index, name in enumerate(SHARES):
        rows = frame.filter(pl.col("which") == index)
        whole = (
            pl.col("units") // 10 ** (9 - decimals.get(name, 0)) * 10 ** (9 - decimals.get(name, 0))
        )
        value = pl.lit(None, FACTS["value"]) if name == "calls" else _decimal(whole)
        group = pl.col("group").replace_strict(list(range(6)), dims, return_dtype=pl.String)
        found[name] = rows.with_columns(
            value=value, dimensions=group if name == "tokens" else pl.lit("{}")
        )
    return found


def _decimal(nanos: pl.Expr) -> pl.Expr:
    """Whole nano-units as the decimal they stand for."""
    return (nanos.cast(pl.Decimal(38, 9)) / pl.lit(10**9).cast(pl.Decimal(38, 0))).cast(
        FACTS["value"]
    )


if __name__ == "__main__":
    given = argparse.ArgumentParser()
    given.add_argument("directory", type=Path)
    given.add_argument("--events", type=int, default=5_000_000)
    given.add_argument("--customers", type=int, default=10_000)
    asked = given.parse_args()
    fill(asked.directory, Size(asked.events, asked.customers), catalog(asked.customers))
