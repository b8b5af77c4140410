"""A month to invoices: by Tallyman, and by bframe on the same business and the same events.

What both can say: a fee, and three products at a price a unit (count and sums). bframe knows no
tiers. It reads its events from a table in memory, Tallyman its facts from Parquet files.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import duckdb
import polars as pl

from bench.gate import BenchFailed, expect
from bench.rating.month import CUSTOMERS, PERIOD, Month
from bench.rating.world import MONTH, NODE, SINCE, UNTIL, catalog
from catalog.clock import Micros
from catalog.snapshot import Catalog
from rating.pipeline import rate
from rating.planned import Planning
from storage.parquet.facts import VOIDS_KEY
from tests.bframe.environment import NotInstallable, environment

PEER = Path(__file__).with_name("bframe_peer.py")
PRICED = {"calls": "0.02", "tokens": "0.04", "egress": "10"}
"""Price a unit, by product and meter. Amounts are whole cents: the two round at other places."""
FEE = 99
BOOKS = 4
CREATED, KNOWN = "2025-12-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"
"""When the business was stated, and up to when events are known: the last are received late."""


def _unit_price(product: str, book: int) -> Decimal:
    return Decimal(PRICED[product]) * (book + 1)


def _prices(book: int) -> list[dict[str, Any]]:
    fee = {"product": "platform", "charge": {"model": "flat", "amount": str(FEE + book)}}
    metered = [
        {"product": p, "charge": {"model": "per_unit", "unit_price": str(_unit_price(p, book))}}
        for p in PRICED
    ]
    return [fee, *metered]


@dataclass
class PlainMonth(Month):
    """The business of :mod:`bench.rating.world` at plain prices, all of it in UTC."""

    @cached_property
    def known(self) -> Catalog:
        """The catalog; building it is not timed."""
        return catalog(self.customers, self.start, prices=_prices, far="UTC")

    @property
    def directory(self) -> Path:
        """Its own: cells are cut where the calendars of its contracts are."""
        return self.context.cache / f"plain-{self.events}-{self.customers}"

    @cached_property
    def planning(self) -> Planning:
        """Plans that are kept from one warm rating to the next."""
        return Planning()

    def later(self) -> Micros:
        """Another instant each time: no answer is remembered."""
        self.as_of = Micros(self.as_of + 1)
        return self.as_of

    def invoiced(self, *, warm: bool) -> tuple[float, dict[str, Decimal]]:
        """Seconds to every contract's total, from cells or from facts; and the totals."""
        began_s = time.perf_counter()
        source = self.source if warm else self.facts
        planning = self.planning if warm else None
        lines = rate(
            self.known, period=PERIOD, source=source, as_of=self.later(), planning=planning
        ).lines
        totals = lines.group_by("contract").agg(pl.col("amount").sum())
        taken_s = time.perf_counter() - began_s
        return taken_s, dict(totals.iter_rows())


class Bframe:
    """bframe with this business in it, in a process and an environment of its own."""

    def __init__(self, asked: IO[str], told: IO[str], answers: Path) -> None:
        self._asked, self._told, self._answers = asked, told, answers

    def invoiced(self) -> tuple[float, dict[str, Decimal]]:
        """Seconds to every contract's invoice, and the totals."""
        self._asked.write(f"{self._answers}\n")
        self._asked.flush()
        taken_s = float(self._told.readline())
        invoices = json.loads(self._answers.read_text())
        return taken_s, {contract: Decimal(total) for contract, total in invoices}


@contextmanager
def running_bframe(month: PlainMonth, *, cache: Path, scratch: Path) -> Iterator[Bframe]:
    """Start it with the month's contracts and events.

    Raises:
        BenchFailed: it cannot be installed, or does not start.
    """
    try:
        python = environment(cache)
    except NotInstallable as error:
        raise BenchFailed(f"bframe cannot be installed here: {error}") from error
    expect("facts", seen=month.facts.state(VOIDS_KEY, NODE).reached, wanted=month.events)
    tables, events = scratch / "tables.json", scratch / "events.parquet"
    ranged = [SINCE.isoformat(), UNTIL.isoformat()]
    told = {"tables": _tables(month.customers), "range": ranged, "known": KNOWN}
    tables.write_text(json.dumps(told))
    _write_events(month, events)
    command = [str(python), str(PEER), str(tables), str(events)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        expect("bframe's first word", seen=process.stdout.readline(), wanted="ready\n")
        yield Bframe(process.stdin, process.stdout, scratch / "invoices.json")
        process.stdin.close()


def _tables(customers: int) -> dict[str, list[dict[str, Any]]]:
    """The business as rows of bframe's tables."""
    stated = {"version": 0, "created_at": CREATED}
    products = [
        stated | {"id": 1, "name": "platform", "ptype": "FIXED", "event_name": None,
                  "filters": None, "agg_property": None},
    ] + [
        stated | {"id": number, "name": name, "ptype": "EVENT", "event_name": name, "filters": None,
                  "agg_property": None if name == "calls" else "$.n"}
        for number, name in enumerate(PRICED, start=2)
    ]  # fmt: skip
    books = [
        stated | {"id": book + 1, "durable_id": f"b{book}", "name": f"b{book}", "prorate": False,
                  "invoice_delivery": "ARREARS", "invoice_schedule": 1}
        for book in range(BOOKS)
    ]  # fmt: skip
    prices = [
        stated | {"id": book * 10 + number, "product_uid": number, "pricebook_uid": book + 1,
                  "price": str(price), "prorate": False}
        for book in range(BOOKS)
        for number, price in enumerate([FEE + book, *(_unit_price(p, book) for p in PRICED)], 1)
    ]  # fmt: skip
    names = [f"c{number:05d}" for number in range(customers)]
    begun = "2026-01-01T00:00:00+00:00"
    return {
        "products": products,
        "pricebooks": books,
        "list_prices": prices,
        "customers": [
            stated | {"id": number, "name": name, "durable_id": name, "ingest_aliases": "[]"}
            for number, name in enumerate(names, start=1)
        ],
        "contracts": [
            stated | {"id": number + 1, "durable_id": f"k-{name}", "customer_id": name,
                      "pricebook_id": f"b{number % BOOKS}", "started_at": begun,
                      "effective_at": begun, "ended_at": "2027-01-01T00:00:00+00:00"}
            for number, name in enumerate(names)
        ],
    }  # fmt: skip


def _write_events(month: PlainMonth, file: Path) -> None:
    """The month's facts as the events that bframe would have been given."""
    parts = [
        f"SELECT '{name}-' || seq AS transaction_id, subject[3:] AS customer_id, "
        f"json_object('name', '{name}', 'n', CAST(value AS DECIMAL(18, 3))) AS properties, "
        f"time AS metered_at, received_at "
        f"FROM read_parquet('{month.directory / 'facts' / month.specs[name]}/*.parquet')"
        for name in PRICED
    ]
    every = " UNION ALL ".join(parts)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 1 AS org_id, 1 AS env_id, 1 AS branch_id, * FROM ({every})) "
            f"TO '{file}' (FORMAT parquet)"
        )


def check_same(month: PlainMonth, theirs: dict[str, Decimal]) -> None:
    """Fail unless both invoice every contract the same, to the last digit.

    Raises:
        BenchFailed: they do not.
    """
    for warm in (False, True):
        ours = month.invoiced(warm=warm)[1]
        differ = [c for c in ours.keys() | theirs.keys() if ours.get(c) != theirs.get(c)]
        expect(
            "contracts invoiced otherwise",
            seen=[(c, ours.get(c), theirs.get(c)) for c in sorted(differ)[:3]],
            wanted=[],
        )


METHOD = {
    "business": f"{CUSTOMERS:,} contracts in 4 pricebooks: a fee, one count and two sums a unit",
    "month": MONTH,
    "bframe": "events in a DuckDB table in memory, 2 threads; totals of bframe.invoices",
    "ours": "facts in Parquet files, or (warm) cells and kept plans; 2 threads; lines rated, "
    "summed by contract, each time as of another instant",
}
