"""A deployment's books without processes: real SQL, real rating, a clock moved by hand."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from api.bookkeeping import Desk
from api.closing import Closing
from api.invoices import Invoices, Wanted
from api.issuing import Issuing
from catalog.clock import FixedClock, Micros
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.documents import Grouping
from invoicing.ports import Arrivals
from invoicing.suspects import Touched
from invoicing.tax import TaxEngine, Untaxed
from invoicing.view import BEGINNING, BooksView, Everyone, Scope, Suspects
from rating.ports import FactSource
from storage.sql.books import SqlBooks
from storage.sql.database import open_database

ALL_TIME = PeriodSpec(text="", first=BEGINNING, until=date(2030, 1, 1))


@dataclass(frozen=True)
class Settled:
    """What a question is answered as of."""

    as_of: Micros
    watermark: Micros


@dataclass
class Catalogs:
    """Catalogs by when they were stated."""

    stated: list[tuple[int, Catalog]] = field(default_factory=list)

    def state(self, at: int, catalog: Catalog) -> None:
        self.stated.append((at, replace(catalog, revision=len(self.stated) + 1)))

    def current(self) -> Catalog:
        return self.stated[-1][1]

    def as_of(self, recorded_at: Micros) -> Catalog:
        return [catalog for at, catalog in self.stated if at <= recorded_at][-1]


@cache
def _empty_database(directory: Path) -> Path:
    path = directory / "template.sqlite"
    open_database(f"sqlite:///{path}").close()
    return path


def database_url(directory: Path, name: str) -> str:
    """A fresh migrated SQLite database: a copy of one that was migrated once."""
    path = directory / f"{name}.sqlite"
    shutil.copy(_empty_database(directory), path)
    return f"sqlite:///{path}"


class World:
    """One deployment: everything finance does, at an instant that moves when told to."""

    def __init__(
        self,
        url: str,
        source: FactSource,
        *,
        now: int,
        grouping: Grouping = Grouping.CONTRACT,
        tax: TaxEngine | None = None,
        grace: timedelta = timedelta(0),
        arrivals: Arrivals | None = None,
    ) -> None:
        self.clock = FixedClock(now)
        self.catalogs = Catalogs()
        self.database = open_database(url)
        self.books = SqlBooks(self.database, self.clock)
        suspects: Suspects = Everyone()
        if arrivals is not None:
            suspects = Touched(catalogs=self.catalogs, arrivals=arrivals)
        self.view = BooksView(
            books=self.books,
            source=source,
            catalogs=self.catalogs,
            grouping=grouping,
            suspects=suspects,
        )
        desk = Desk(
            books=self.books,
            view=self.view,
            catalogs=self.catalogs,
            freshness=self,
            clock=self.clock,
            answered=self.clock.now_us,
            nodes=dict,
            writing=asyncio.Lock(),
        )
        self.closing = Closing(desk)
        self._another = partial(Invoices, desk, grouping=grouping, tax=tax or Untaxed())
        self.invoices = self._another()
        self.issuing = Issuing(desk, self.invoices, grace=grace)

    async def settle(self, as_of: Micros | None, specs: Sequence[Any]) -> Settled:
        """A later instant at every question, like the heartbeats of real nodes."""
        now = self.tick() if as_of is None else as_of
        return Settled(as_of=now, watermark=max(now, self.clock.now_us()))

    def tick(self, by: int = 10) -> Micros:
        self.clock.set(self.clock.now_us() + by)
        return self.clock.now_us()

    def state(self, catalog: Catalog) -> None:
        self.catalogs.state(self.tick(), catalog)
        self.tick()

    def close(self, month: str) -> dict[str, Any]:
        return dict(json.loads(asyncio.run(self.closing.close(month, actor=None))))

    def lines(self, period: str | PeriodSpec, *, as_of: int | None = None) -> pl.DataFrame:
        """STANDING of a period."""
        spec = PeriodSpec.parse(period) if isinstance(period, str) else period
        return self.view.view(Scope(period=spec, as_of=Micros(as_of or self.tick()))).lines

    def remember_nothing(self) -> None:
        """Read invoices as a process that has just begun."""
        self.invoices = self._another()

    def pages(self, *, of: int, period: str = "2026") -> list[list[dict[str, Any]]]:
        """The documents of a period, so many a page, the later ones as of the first."""
        wanted = Wanted(period=PeriodSpec.parse(period))
        first = asyncio.run(self.invoices.listed(wanted))
        found = [first.documents(0, of)]
        while len(found) * of < len(first):
            rest = asyncio.run(self.invoices.listed(replace(wanted, as_of=first.as_of)))
            found.append(rest.documents(len(found) * of, (len(found) + 1) * of))
        return [[dict(document.head) for document in page] for page in found]

    def listed(self, period: str = "2026", **more: Any) -> list[dict[str, Any]]:
        wanted = Wanted(period=PeriodSpec.parse(period), **more)
        found = asyncio.run(self.invoices.listed(wanted))
        return [dict(document.head) for document in found.documents()]

    def issue(self, id_: str) -> dict[str, Any]:
        return dict(asyncio.run(self.issuing.issue(id_, actor=None)).head)

    def issue_due(self, period: PeriodSpec) -> Any:
        return asyncio.run(self.issuing.issue_due(Wanted(period=period), actor=None))

    def void(self, id_: str) -> dict[str, Any]:
        return dict(asyncio.run(self.issuing.void(id_, reason=None, actor=None)).head)

    def rows(self) -> list[tuple[int, str]]:
        """Everything closed: sequence and checksum."""
        found = self.books.closed_after(0, limit=1_000_000)
        return found.select("sequence", "checksum").rows()

    def end(self) -> None:
        self.database.close()
