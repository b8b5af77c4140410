"""The books of one deployment as the worker has them, at an instant that is moved by hand."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.bookkeeping import Desk
from api.closing import Closing
from api.invoices import Invoices, Wanted
from api.issuing import Issued, Issuing
from bench.gate import expect
from bench.rating.month import AFTER, Month
from bench.rating.world import MONTH
from catalog.clock import FixedClock, Micros
from catalog.ids import SpecId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.documents import Grouping
from invoicing.ports import Arrived
from invoicing.suspects import Touched
from invoicing.view import BooksView
from outbound.tax import TableTax
from storage.sql.books import SqlBooks
from storage.sql.database import open_database

BEFORE = "2026-09"
START = "2026-09-01"
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Settled:
    """What is answered as of."""

    as_of: Micros
    watermark: Micros


@dataclass(frozen=True, slots=True)
class Late:
    """Whose events arrived after the close before: one subject in a hundred."""

    customers: int

    def subjects(self, arrived: Arrived) -> frozenset[str]:
        """Theirs."""
        del arrived
        return frozenset(f"s-c{n:05d}" for n in range(0, self.customers, 100))


@dataclass(frozen=True, slots=True)
class Stated:
    """One catalog, stated long ago."""

    catalog: Catalog

    def current(self) -> Catalog:
        """It."""
        return self.catalog

    def as_of(self, recorded_at: Micros) -> Catalog:
        """It."""
        del recorded_at
        return self.catalog


class Deployment:
    """Closing and issuing as ``api/wiring/finance.py`` builds them, over a database of its own.

    Rating starts cold at every deployment: no plan, sum or answer is kept from another one.
    """

    def __init__(self, month: Month, url: str, *, days: int) -> None:
        self._clock = FixedClock(AFTER + days * DAY_US)
        self._database = open_database(url)
        self.books = SqlBooks(self._database, self._clock)
        stated = Stated(month.known)
        view = BooksView(
            books=self.books,
            source=month.source,
            catalogs=stated,
            grouping=Grouping.CONTRACT,
            suspects=Touched(catalogs=stated, arrivals=Late(month.customers)),
        )
        desk = Desk(
            books=self.books,
            view=view,
            catalogs=stated,
            freshness=self,
            clock=self._clock,
            answered=self._clock.now_us,
            nodes=dict,
            writing=asyncio.Lock(),
        )
        invoices = Invoices(desk, grouping=Grouping.CONTRACT, tax=TableTax())
        self._closing = Closing(desk)
        self._issuing = Issuing(desk, invoices, grace=timedelta(0))

    async def settle(self, as_of: Micros | None, specs: Sequence[SpecId]) -> Settled:
        """A second later at every question: the facts are there."""
        del specs
        if as_of is None:
            self._clock.set(self._clock.now_us() + 1_000_000)
            as_of = self._clock.now_us()
        return Settled(as_of=as_of, watermark=as_of)

    def close(self, month: str = MONTH) -> tuple[float, dict[str, Any]]:
        """Close a month; answers the seconds it took and what it said."""
        began_s = time.perf_counter()
        body = asyncio.run(self._closing.close(month, actor=None))
        return time.perf_counter() - began_s, json.loads(body)

    def issue(self) -> tuple[float, Issued]:
        """Issue all that is due; answers the seconds it took and what it said."""
        wanted = Wanted(period=PeriodSpec.parse(MONTH))
        began_s = time.perf_counter()
        issued = asyncio.run(self._issuing.issue_due(wanted, actor=None))
        return time.perf_counter() - began_s, issued

    def end(self) -> None:
        """Let go of the database."""
        self._database.close()


def template(month: Month, directory: Path) -> Path:
    """A SQLite database in which the month before is closed: mostly fees."""
    path = directory / "before.sqlite"
    if not path.exists():
        deployment = Deployment(month, f"sqlite:///{path}", days=1)
        deployment.close(BEFORE)
        deployment.end()
    return path


def fresh(month: Month, directory: Path, name: str) -> Deployment:
    """A deployment with the month before closed, over a copy of the database."""
    path = directory / f"{name}.sqlite"
    shutil.copy(template(month, directory), path)
    return Deployment(month, f"sqlite:///{path}", days=2)


def check_closed(deployment: Deployment, body: dict[str, Any]) -> None:
    """Fail unless what was answered is what is stored, line by line.

    Raises:
        BenchFailed: it is not.
    """
    closed = deployment.books.closed(as_of=Micros(2**62), since=PeriodSpec.parse(MONTH).first)
    sums = closed.group_by("currency").agg(amount=closed["amount"].sum())
    expect("lines stored", seen=closed.height, wanted=body["lines"])
    expect("sequence without gaps", seen=closed["sequence"].n_unique(), wanted=body["lines"])
    told = {name: f"{amount:.2f}" for name, amount in sums.iter_rows()}
    expect("amounts stored", seen=told, wanted=body["amounts"])


def check_issued(deployment: Deployment, issued: Issued, body: dict[str, Any]) -> None:
    """Fail unless the month's lines are on invoices, each numbered once.

    Raises:
        BenchFailed: they are not.
    """
    expect("amounts issued", seen=issued.amounts, wanted=body["amounts"])
    documents = deployment.books.documents(as_of=Micros(2**62))
    numbers = [f"INV-{n:06d}" for n in range(1, issued.issued + 1)]
    expect("numbers without gaps", seen=documents["number"].to_list(), wanted=numbers)
    closed = deployment.books.closed(as_of=Micros(2**62), since=PeriodSpec.parse(MONTH).first)
    expect("lines on no invoice", seen=closed["invoice"].null_count(), wanted=0)
