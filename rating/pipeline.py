"""Rating: a catalog and facts in, lines out. Pure but for the one question to the fact source."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from catalog.clock import Micros
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.contract_terms.lines import settled_lines, shown_terms
from rating.engine import ENGINE
from rating.frames import BILLING, LINES, sorted_lines
from rating.lines import shown_lines
from rating.planned import Planning
from rating.ports import FactSource
from rating.pricing import price_usage
from rating.quantities import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """LINES in their one order, BILLING beside them row by row, and what they were made with."""

    lines: pl.DataFrame
    billing: pl.DataFrame
    as_of: Micros
    engine: str = ENGINE


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
    planning = Planning() if planning is None else planning
    work = planning.of(catalog, period, as_of, customers=customers, contracts=contracts)
    plans = work.plans
    priced = price_usage(plans, measure(plans, catalog, source, as_of=as_of))
    settled = settled_lines(work.agreed, plans, priced)
    wanted = [s for s in settled if period.holds(s.line.document.accounting)]
    counts = pl.col("accounting_date").is_between(period.first, period.until, closed="left")
    lines = pl.concat([shown_lines(plans, priced).filter(counts), shown_terms(wanted)])
    if not zeros:
        lines = lines.filter((pl.col("quantity") != 0) | (pl.col("amount") != 0))
    lines = sorted_lines(lines)
    return Rated(lines=lines.select(list(LINES)), billing=lines.select(list(BILLING)), as_of=as_of)
