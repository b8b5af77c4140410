"""Rating: a catalog and facts in, lines out. Pure but for the one question to the fact source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from catalog.clock import Micros
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.contract_terms.account import Reach
from rating.contract_terms.agreement import Agreement
from rating.contract_terms.lines import Settled, settled_lines, shown_terms
from rating.engine import ENGINE
from rating.frames import BILLING, LINES, sorted_lines
from rating.lines import in_order, shown_lines
from rating.pieces import Measured
from rating.plan import LinePlan
from rating.planned import Planning
from rating.ports import FactSource
from rating.pricing import price_usage
from rating.probes import Question, ask
from rating.quantities import answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which lines are wanted: those that count in ``period`` and have begun by ``as_of``.

    ``customers`` and ``contracts`` narrow it (null: all).
    """

    period: PeriodSpec
    as_of: Micros
    customers: Collection[str] | None = None
    contracts: Collection[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """LINES in their one order, BILLING beside them row by row, and what they were made with."""

    lines: pl.DataFrame
    billing: pl.DataFrame
    as_of: Micros
    engine: str = ENGINE


@dataclass(kw_only=True)
class Prepared:
    """The lines of a question before anything is counted, and contracts with terms as a whole."""

    catalog: Catalog
    plans: Sequence[LinePlan]
    agreed: Sequence[tuple[Agreement, Reach]]

    @cached_property
    def question(self) -> Question:
        """What has to be counted for them."""
        return ask(self.plans, self.catalog)


Measuring = Callable[[Prepared], Measured]
"""What plans are priced by: usage from facts, or usage that somebody gives."""


def from_facts(source: FactSource, as_of: Micros) -> Measuring:
    """Usage as received by ``as_of``."""
    return lambda prepared: answered(prepared.plans, prepared.question, source, as_of=as_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """Plans with their priced USAGE, and the lines of contracts as a whole.

    Both reach back before the period where a contract's terms look back.
    """

    plans: Sequence[LinePlan]
    usage: pl.DataFrame
    settled: Sequence[Settled]


def rate(  # noqa: PLR0913 - one question, all of it optional but three
    catalog: Catalog,
    *,
    period: PeriodSpec,
    source: FactSource,
    as_of: Micros,
    customers: Collection[str] | None = None,
    contracts: Collection[str] | None = None,
    zeros: bool = False,
    planning: Planning | None = None,
) -> Rated:
    """Every line that counts in ``period``, priced with what was received up to ``as_of``.

    ``customers`` and ``contracts`` narrow it (null: all). Lines with quantity 0 and amount 0 are
    left out unless ``zeros``. The result does not depend on the order or batches of the facts, nor
    on ``planning``, which keeps plans from question to question.

    Raises:
        OutOfRange: a quantity or amount is beyond what is promised to be exact.
        NotCovered: a quantity lies beyond the last tier of a price that refuses it.
        UnsupportedTerms: the catalog states what cannot be rated yet.
    """
    asked = Asked(period=period, as_of=as_of, customers=customers, contracts=contracts)
    return rated_lines(catalog, asked, from_facts(source, as_of), zeros=zeros, planning=planning)


def rated_lines(
    catalog: Catalog,
    asked: Asked,
    measuring: Measuring,
    *,
    zeros: bool = False,
    planning: Planning | None = None,
) -> Rated:
    """:func:`rate` with usage from anywhere."""
    priced = price(prepare(catalog, asked, planning), measuring)
    wanted = [s for s in priced.settled if asked.period.holds(s.line.document.accounting)]
    first, until = asked.period.first, asked.period.until
    counts = pl.col("accounting_date").is_between(first, until, closed="left")
    usage, told = in_order(priced.plans, priced.usage)
    lines = shown_lines(priced.plans, usage).filter(counts)
    if wanted:
        lines = pl.concat([lines, shown_terms(wanted)])
    if not zeros:
        lines = lines.filter((pl.col("quantity") != 0) | (pl.col("amount") != 0))
    if wanted or not told:
        lines = sorted_lines(lines)
    return Rated(
        lines=lines.select(list(LINES)), billing=lines.select(list(BILLING)), as_of=asked.as_of
    )


def prepare(catalog: Catalog, asked: Asked, planning: Planning | None = None) -> Prepared:
    """Plan what is asked for, or take it from ``planning``; nothing is counted yet."""
    planning = Planning() if planning is None else planning
    work = planning.of(
        catalog,
        asked.period,
        asked.as_of,
        customers=asked.customers,
        contracts=asked.contracts,
    )
    return Prepared(catalog=catalog, plans=work.plans, agreed=work.agreed)


def price(prepared: Prepared, measuring: Measuring) -> Priced:
    """Count and price what was planned; nothing is put in words yet. Raises as :func:`rate`."""
    plans = prepared.plans
    usage = price_usage(plans, measuring(prepared))
    settled = list(settled_lines(prepared.agreed, plans, usage))
    return Priced(plans=plans, usage=usage, settled=settled)
