"""Rating: a catalog and facts in, lines out. Pure but for the one question to the fact source."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.clock import Micros
from catalog.errors import OutOfRange
from catalog.money import minor_units, round_fraction
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.book import Book, make_book
from rating.charges.base import NotCovered
from rating.engine import ENGINE
from rating.frames import AMOUNT, BILLING, LINES, sorted_lines
from rating.lines import shown_lines
from rating.plan import Accounted, LinePlan, plan_lines
from rating.ports import FactSource
from rating.quantities import USAGE, measure
from rating.rounding import round_amounts
from rating.shares import Share
from rating.steps import STEPS, Priced
from rating.terms import Terms


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
) -> Rated:
    """Every line that counts in ``period``, priced with what was received up to ``as_of``.

    ``customers`` and ``contracts`` narrow it (null: all). Lines with quantity 0 and amount 0 are
    left out unless ``zeros``. The result does not depend on the order or batches of the facts.

    Raises:
        OutOfRange: a quantity or amount is beyond what is promised to be exact.
        NotCovered: a quantity lies beyond the last tier of a price that refuses it.
        UnsupportedTerms: the catalog states what cannot be rated yet.
    """
    plans = plan_lines(catalog, Accounted(period, as_of), customers=customers, contracts=contracts)
    usage = measure(plans, catalog, source, as_of=as_of)
    lines = shown_lines(plans, price_usage(plans, usage))
    if not zeros:
        lines = lines.filter((pl.col("quantity") != 0) | (pl.col("amount") != 0))
    lines = sorted_lines(lines)
    return Rated(lines=lines.select(list(LINES)), billing=lines.select(list(BILLING)), as_of=as_of)


def price_usage(plans: Sequence[LinePlan], usage: pl.DataFrame) -> pl.DataFrame:
    """USAGE with ``amount`` (Decimal(38,6)), rounded once to the minor units of the currency.

    Lines that fit are priced as columns; the rest by the same steps on fractions.
    """
    distinct = {id(plan.terms): plan.terms for plan in plans}
    numbers = {key: number for number, key in enumerate(distinct)}
    book = make_book(list(distinct.values()))
    lines = pl.DataFrame(
        [(i, numbers[id(p.terms)], p.terms.currency, _whole(p)) for i, p in enumerate(plans)],
        schema={"line": pl.Int64, "terms": pl.Int64, "currency": pl.String, "whole": pl.Boolean},
        orient="row",
    )
    rows = usage.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).join(lines, on="line")
    columns = _as_columns(rows, book)
    rest = rows.join(columns, on="row", how="anti")
    amounts = pl.concat([columns, _as_fractions(plans, rest)])
    return rows.join(amounts, on="row").select(*USAGE, "amount")


def _whole(plan: LinePlan) -> bool:
    """Whether the share of the period does not matter to the amount."""
    price = plan.terms.price
    scaled = (price.included, price.minimum, price.maximum)
    return plan.share == Share() or (plan.share.fee == 1 and scaled == (None, None, None))


def _as_columns(rows: pl.DataFrame, book: Book) -> pl.DataFrame:
    """(row, amount) of the rows that fit; none for units that no tier covers."""
    fits = pl.col("whole") & (pl.col("divisor") == 1)
    lines = (
        rows.filter(fits)
        .join(book.terms, on="terms")
        .filter(pl.col("quantity").abs() <= pl.col("units_max"))
        .rename({"line": "plan", "row": "line", "quantity": "units"})
    )
    for step in STEPS:
        lines = step.columns(lines, book)
    priced = round_amounts(lines.drop_nulls("amount"))
    return priced.select(pl.col("line").alias("row"), "amount")


def _as_fractions(plans: Sequence[LinePlan], rows: pl.DataFrame) -> pl.DataFrame:
    """(row, amount) of any rows, one by one on Python's integers."""
    amounts = [
        (row, rounded_amount(plans[line], Fraction(quantity) / divisor))
        for row, line, quantity, divisor in rows.select(
            "row", "line", "quantity", "divisor"
        ).iter_rows()
    ]
    return pl.DataFrame(amounts, schema={"row": pl.Int64, "amount": AMOUNT}, orient="row")


def rounded_amount(plan: LinePlan, quantity: Fraction) -> Decimal:
    """What one line comes to, rounded to the minor units of its currency.

    Raises:
        NotCovered, OutOfRange: naming the line's contract and product.
    """
    try:
        priced = price_exactly(plan.terms, plan.share, quantity)
        return round_fraction(priced.amount, minor_units(plan.terms.currency))
    except (NotCovered, OutOfRange) as error:
        named = f"contract {plan.contract}, product {plan.terms.product}: {error.detail}"
        raise type(error)(named) from None


def price_exactly(terms: Terms, share: Share, quantity: Fraction) -> Priced:
    """One line through every step, on fractions; not rounded."""
    line = Priced(units=quantity)
    for step in STEPS:
        line = step.exact(line, terms, share)
    return line
