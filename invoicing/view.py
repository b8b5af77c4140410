"""The books as of an instant: what is closed, what is open, and the adjustments between them.

Everything that shows or closes lines goes through here, so totals are closed + open by
construction: a line is shown from ``closed_lines`` or rated, never both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Protocol

import polars as pl

from catalog.clock import Micros
from catalog.indexed import PerCatalog
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.adjusting import closing_instants, placed_adjustments
from invoicing.adjustments import differences, identities
from invoicing.causes import with_causes
from invoicing.closed import CLOSED
from invoicing.documents import Grouping, Payers
from invoicing.placement import latest_day
from invoicing.ports import Books, BooksState, Catalogs, Inspection
from rating.frames import BILLING, LINES, LINES_ORDER
from rating.ports import FactSource
from rating.rater import Rater

STANDING = pl.Schema(
    {
        **LINES,
        "billing_start": BILLING["billing_start"],
        "billing_end": BILLING["billing_end"],
        "accounting_date": BILLING["accounting_date"],
        "document": pl.String(),
        "entity": pl.String(),
        "payer": pl.String(),
        "sequence": pl.Int64(),
        "invoice": pl.String(),
        "invoice_number": pl.String(),
    }
)
"""LINES, open and closed, with where they are billed. ``sequence``, ``invoice`` and
``invoice_number`` are null for open lines; the latter two also for what is not invoiced."""

BEGINNING = date(1970, 1, 1)
AHEAD = timedelta(days=400)
FAR_AHEAD = timedelta(days=4_100)
PAYERS_KEPT = 2
"""Catalogs whose payers are remembered: that of now, and that of a question about the past."""


class Suspects(Protocol):
    """Which contracts may need adjustments."""

    def of(self, asked: Inspection) -> Collection[str]:
        """Every contract of which a closed line could be another one. More is slow, fewer wrong."""
        ...


class Everyone:
    """All contracts there are: always right, and the reference."""

    def of(self, asked: Inspection) -> Collection[str]:
        """All of them."""
        return [str(contract) for contract in asked.catalog.contracts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which lines: those that count in ``period``, as known at ``as_of``; null means all."""

    period: PeriodSpec
    as_of: Micros
    customers: Collection[str] | None = None
    contracts: Collection[str] | None = None
    zeros: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """STANDING in the order of lines; ``unsettled`` are contracts with adjustments beyond it."""

    lines: pl.DataFrame
    unsettled: frozenset[str]


class BooksView:
    """Reads the books. Pure but for its ports; call it in a thread."""

    def __init__(
        self,
        *,
        books: Books,
        source: FactSource,
        catalogs: Catalogs,
        grouping: Grouping,
        suspects: Suspects,
    ) -> None:
        self._books = books
        self._source = source
        self._catalogs = catalogs
        self._payers = PerCatalog(lambda catalog: Payers(catalog, grouping), kept_max=PAYERS_KEPT)
        self._suspects = suspects
        self._rater = Rater()

    def payers(self, catalog: Catalog) -> Payers:
        """Who is billed for what, as ``catalog`` says."""
        return self._payers(catalog)

    def view(self, scope: Scope) -> View:
        """Every line of ``scope``. The same scope gives the same bytes, for ever."""
        catalog = self._catalogs.as_of(scope.as_of)
        state = self._books.state(as_of=scope.as_of)
        look = Look(
            scope=scope,
            catalog=catalog,
            state=state,
            payers=self.payers(catalog),
            contracts=_contracts(catalog, scope),
        )
        if not state.anything:
            return View(lines=self._rated(look, scope.period), unsettled=frozenset())
        shown = [self._closed(look)]
        unsettled: frozenset[str] = frozenset()
        if scope.period.until > state.closed_until:
            found, unsettled = self._open(look)
            shown.extend(found)
        lines = pl.concat(shown).sort(*LINES_ORDER, nulls_last=False)
        return View(lines=lines, unsettled=unsettled)

    def _closed(self, look: Look) -> pl.DataFrame:
        scope = look.scope
        closed = self._books.closed(
            as_of=scope.as_of,
            since=scope.period.first,
            until=scope.period.until,
            contracts=look.contracts,
        )
        return look.payers.paid(closed).select(list(STANDING))

    def _open(self, look: Look) -> tuple[list[pl.DataFrame], frozenset[str]]:
        """What is rated and not closed, and the adjustments that count in the period."""
        scope, state = look.scope, look.state
        span = replace(scope.period, first=max(scope.period.first, state.closed_until))
        rated = self._rated(look, span)
        ahead = self._books.closed(
            as_of=scope.as_of, since=state.closed_until, contracts=look.contracts
        )
        issued = self._books.issued(as_of=scope.as_of, since=state.closed_until)
        changed = self._changed(look, issued, ahead)
        taken = pl.concat([identities(ahead), identities(changed.closed)])
        held = pl.col("document").is_in(list(issued)) | pl.col("line_id").is_in(taken.implode())
        fresh = rated.filter(~held)
        days = pl.col("accounting_date")
        due = changed.lines.filter(days.is_between(span.first, span.until, closed="left"))
        later = changed.lines.filter(days >= span.until)
        return [fresh, due], frozenset(later["contract"])

    def _rated(self, look: Look, period: PeriodSpec) -> pl.DataFrame:
        """Lines as rated, whether closed or not."""
        rated = self._rater.rate(
            look.catalog,
            period=period,
            source=self._source,
            as_of=look.scope.as_of,
            contracts=look.contracts,
            zeros=look.scope.zeros,
        )
        billed = pl.concat([rated.lines, rated.billing.drop("line_id")], how="horizontal")
        return standing(billed, look.payers)

    def _changed(self, look: Look, issued: frozenset[str], ahead: pl.DataFrame) -> _Changed:
        """The open adjustments of the contracts in scope, wherever they count."""
        found = self._suspects.of(
            Inspection(
                catalog=look.catalog,
                state=look.state,
                ahead=ahead,
                as_of=look.scope.as_of,
                among=look.contracts,
            )
        )
        suspects = {name for name in found if name in look.catalog.contracts}
        if look.contracts is not None:
            suspects &= set(look.contracts)
        if not suspects:
            return _Changed(lines=STANDING.to_frame(), closed=CLOSED.to_frame())
        contracts = sorted(suspects)
        closed = self._books.closed(as_of=look.scope.as_of, contracts=contracts)
        again = _Again(view=self, look=look, closed=closed, issued=issued)
        changed = differences(again.rated(look.catalog, contracts), closed)
        if changed.is_empty():
            return _Changed(lines=STANDING.to_frame(), closed=closed)
        dated = changed.with_columns(closing_instants(changed, closed, look.state))
        told = with_causes(
            dated,
            closed,
            now=look.catalog,
            catalog_at=self._catalogs.as_of,
            rerate=again.rated,
            as_was=again.as_was,
        )
        placed = placed_adjustments(
            told, issued, catalog=look.catalog, payers=look.payers, state=look.state
        )
        return _Changed(lines=standing(placed, look.payers), closed=closed)

    def catalog_at(self, instant: Micros) -> Catalog:
        """The catalog as it was known at ``instant``."""
        return self._catalogs.as_of(instant)

    def again(self, look: Look, span: PeriodSpec) -> pl.DataFrame:
        """STANDING of a span, as rated now."""
        return self._rated(look, span)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One question, with what it is answered from."""

    scope: Scope
    catalog: Catalog
    state: BooksState
    payers: Payers
    contracts: Collection[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    """Open adjustments (STANDING), and everything closed of the contracts looked at (CLOSED)."""

    lines: pl.DataFrame
    closed: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """Rates what is closed once more."""

    view: BooksView
    look: Look
    closed: pl.DataFrame
    issued: frozenset[str]

    def rated(self, catalog: Catalog, contracts: list[str]) -> pl.DataFrame:
        """Lines of ``contracts`` that are closed, or in closed billing periods, under ``catalog``.

        A closed line may count later than it did (its contract no longer ends): those that are not
        found near are looked for far ahead.
        """
        near = self._scoped(catalog, contracts, AHEAD)
        base = self.closed.select("contract", line_id=pl.coalesce("adjusts", "line_id")).unique()
        own = base.filter(pl.col("contract").is_in(contracts))
        gone = own.join(near, on="line_id", how="anti")["contract"].unique().to_list()
        if not gone:
            return near
        far = self._scoped(catalog, sorted(gone), FAR_AHEAD)
        return pl.concat([near, far.join(near, on="line_id", how="anti")])

    def as_was(self, instant: Micros, contracts: list[str]) -> pl.DataFrame:
        """The same, with the catalog and the events known at ``instant``."""
        then = replace(self.look, scope=replace(self.look.scope, as_of=instant))
        return replace(self, look=then).rated(self.view.catalog_at(instant), contracts)

    def _scoped(self, catalog: Catalog, contracts: list[str], ahead: timedelta) -> pl.DataFrame:
        until = latest_day(catalog, self.look.scope.as_of) + ahead
        span = PeriodSpec(text="", first=BEGINNING, until=until)
        scope = replace(self.look.scope, zeros=False)
        look = replace(self.look, catalog=catalog, contracts=contracts, scope=scope)
        rated = self.view.again(look, span)
        known = pl.col("line_id").is_in(identities(self.closed).implode())
        issued = pl.col("document").is_in(list(self.issued))
        counted = pl.col("accounting_date") < self.look.state.closed_until
        return rated.filter(known | issued | counted)


def standing(lines: pl.DataFrame, payers: Payers) -> pl.DataFrame:
    """STANDING of open LINES with BILLING."""
    named = payers.documented(lines)
    nothing = [pl.lit(None).alias(name) for name in ("sequence", "invoice", "invoice_number")]
    return named.with_columns(nothing).select(
        pl.col(name).cast(dtype) for name, dtype in STANDING.items()
    )


def _contracts_by_customer(catalog: Catalog) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name, chain in catalog.contracts.items():
        if chain.versions:
            found.setdefault(chain.last.customer, []).append(str(name))
    return found


_by_customer = PerCatalog(_contracts_by_customer)


def _contracts(catalog: Catalog, scope: Scope) -> Collection[str] | None:
    """The contracts in scope by name; null for all."""
    if scope.customers is None:
        return scope.contracts
    named = _by_customer(catalog)
    found = {name for customer in scope.customers for name in named.get(customer, ())}
    return sorted(found if scope.contracts is None else found & set(scope.contracts))
