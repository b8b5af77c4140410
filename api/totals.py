"""Rated totals as a service: one question in, lines with their ``as_of`` and watermark out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Protocol, TypeVar

import polars as pl

from catalog.clock import Micros, to_micros
from catalog.errors import NotFound
from catalog.families import family_of
from catalog.ids import ContractId, CustomerId, SpecId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.ports import Books
from invoicing.view import BooksView, Scope
from rating.explain import explain, line_facts
from rating.explanation import Explanation
from rating.frames import BILLING, LINES
from rating.lines import named_in
from rating.pipeline import rate
from rating.plan import specs_needed
from rating.ports import FactSource
from rating.rendering import as_text

K = TypeVar("K", bound=str)
EVER = PeriodSpec(text="", first=date(1970, 1, 1), until=date(2200, 1, 1))


class Catalogs(Protocol):
    """The catalog now and as it was recorded at an instant."""

    def current(self) -> Catalog:
        """Everything stated so far."""
        ...

    def as_of(self, recorded_at: Micros) -> Catalog:
        """What had been stated by then."""
        ...


class Settled(Protocol):
    """An instant up to which every fact is known, and how far the log itself is."""

    @property
    def as_of(self) -> Micros:
        """What the answer is as of."""
        ...

    @property
    def watermark(self) -> Micros:
        """The smallest durable instant over the nodes."""
        ...


class Freshness(Protocol):
    """Who waits for the readers."""

    async def settle(self, as_of: Micros | None, specs: Sequence[SpecId]) -> Settled:
        """Wait until the facts of ``specs`` cover ``as_of`` (None: everything acknowledged)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which lines are wanted. Null means all; ``as_of`` null means everything acknowledged.

    ``family`` takes the customers below ``customer`` too: those that are billed together.
    """

    period: PeriodSpec
    customer: CustomerId | None = None
    contract: ContractId | None = None
    as_of: Micros | None = None
    zeros: bool = False
    family: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """LINES with BILLING beside them row by row, and what they are as of."""

    lines: pl.DataFrame
    billing: pl.DataFrame
    as_of: Micros
    watermark: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvents:
    """FACTS behind one line, by time, node and seq, and the instant they are as of."""

    facts: pl.DataFrame
    as_of: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedBooks:
    """What is closed, and how it is looked at together with what is open."""

    books: Books
    view: BooksView


class RatedTotals:
    """Answers :class:`Question` from the catalog and the facts as of one instant.

    Rating runs in a thread: it is Polars work and must not hold up the worker's event loop.
    ``closed`` are the books: what is closed in them is shown as it was closed (null: nothing is).
    """

    def __init__(
        self,
        *,
        catalogs: Catalogs,
        source: FactSource,
        freshness: Freshness,
        closed: ClosedBooks | None = None,
    ) -> None:
        self._catalogs = catalogs
        self._source = source
        self._freshness = freshness
        self._closed = closed

    async def ask(self, question: Question) -> Totals:
        """Rate what is asked for.

        Raises:
            NotFound: the customer or contract named is not in the catalog of that instant.
        """
        settled, catalog = await self._settle(question.as_of)
        customers = _known(catalog.customers, question.customer, "customer")
        if question.family and question.customer is not None:
            customers = family_of(catalog, question.customer)
        contracts = _known(catalog.contracts, question.contract, "contract")
        scope = Scope(
            period=question.period,
            as_of=settled.as_of,
            customers=customers,
            contracts=contracts,
            zeros=question.zeros,
        )
        lines, billing = await asyncio.to_thread(self._lines, catalog, scope)
        return Totals(
            lines=lines, billing=billing, as_of=settled.as_of, watermark=settled.watermark
        )

    def _lines(self, catalog: Catalog, scope: Scope) -> tuple[pl.DataFrame, pl.DataFrame]:
        """LINES and BILLING, row by row."""
        if self._closed is not None:
            found = self._closed.view.view(scope).lines
            return found.select(list(LINES)), found.select(list(BILLING))
        rated = rate(
            catalog,
            period=scope.period,
            source=self._source,
            as_of=scope.as_of,
            customers=scope.customers,
            contracts=scope.contracts,
            zeros=scope.zeros,
        )
        return rated.lines, rated.billing

    async def explain(
        self, line_id: str, *, as_of: Micros | None = None
    ) -> tuple[Explanation, dict[str, str] | None]:
        """Say how one line came about, as of its closing where it is closed.

        An adjustment is explained by the line it adjusts, as that comes to now or came to when the
        adjustment was closed; what it adds to what was closed is told beside (else null).

        Raises:
            NotFound: no such line in the catalog of that instant.
        """
        target, moment, adjustment = await self._explained(line_id, as_of)
        found = await asyncio.to_thread(partial(explain, **await self._line(target, moment)))
        return found, adjustment

    async def _explained(
        self, line_id: str, as_of: Micros | None
    ) -> tuple[str, Micros | None, dict[str, str] | None]:
        """The rated line that explains ``line_id``, as of when, and what an adjustment says."""
        if self._closed is None:
            return line_id, as_of, None
        closed = await asyncio.to_thread(self._closed.books.line, line_id)
        if closed.height:
            moment = to_micros(closed["as_of"].item()) if as_of is None else as_of
            return _adjusted(closed, line_id, moment)
        contract, _ = named_in(line_id)
        settled, catalog = await self._settle(as_of)
        if contract not in catalog.contracts:
            raise NotFound(f"no line {line_id!r}")
        scope = Scope(period=EVER, as_of=settled.as_of, contracts=[contract])
        lines = (await asyncio.to_thread(self._closed.view.view, scope)).lines
        mine = lines.filter(pl.col("line_id") == line_id, pl.col("adjusts").is_not_null())
        if mine.is_empty():
            return line_id, as_of, None
        return _adjusted(mine, line_id, settled.as_of)

    async def events(self, line_id: str, *, as_of: Micros | None = None) -> LineEvents:
        """FACTS behind one line.

        Raises:
            NotFound: no such line in the catalog of that instant.
        """
        target, moment, _ = await self._explained(line_id, as_of)
        asked = await self._line(target, moment)
        find = partial(line_facts, **asked)
        facts = await asyncio.to_thread(lambda: find().collect())
        return LineEvents(facts=facts, as_of=asked["as_of"])

    async def _line(self, line_id: str, as_of: Micros | None) -> dict[str, Any]:
        contract, period = named_in(line_id)
        settled, catalog = await self._settle(as_of)
        if contract not in catalog.contracts:
            raise NotFound(f"no line {line_id!r}")
        return {
            "catalog": catalog,
            "line_id": line_id,
            "period": period,
            "contract": contract,
            "source": self._source,
            "as_of": settled.as_of,
        }

    async def _settle(self, as_of: Micros | None) -> tuple[Settled, Catalog]:
        specs = specs_needed(self._catalogs.current())
        settled = await self._freshness.settle(as_of, specs)
        return settled, self._catalogs.as_of(settled.as_of)


def _adjusted(
    lines: pl.DataFrame, line_id: str, as_of: Micros
) -> tuple[str, Micros, dict[str, str] | None]:
    """One line, closed or an open adjustment: what explains it, and what it adjusts."""
    row = as_text(lines.select(list(LINES))).row(0, named=True)
    if row["adjusts"] is None:
        return line_id, as_of, None
    told = {name: row[name] for name in ("line_id", "adjusts", "cause", "quantity", "amount")}
    return row["adjusts"], as_of, told


def _known(known: Mapping[K, object], wanted: K | None, what: str) -> list[K] | None:
    if wanted is None:
        return None
    if wanted not in known:
        raise NotFound(f"no {what} {wanted!r}")
    return [wanted]
