"""What was used, priced: as columns where that is exact, else on fractions, rounded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.charges import Charge
from catalog.errors import OutOfRange
from catalog.money import minor_units, round_fraction
from catalog.pricebooks import Price
from rating.book import Book, make_book
from rating.cells import exact
from rating.charges.base import EXACT, NotCovered
from rating.exactly import price_exactly, start_of
from rating.frames import AMOUNT
from rating.pieces import Measured
from rating.plan import LinePlan, Part
from rating.planned import Planned, once, planned
from rating.rounding import round_amounts
from rating.shares import Share
from rating.steps import STEPS, Priced, charge_columns
from rating.straight import Straights
from rating.terms import Terms
from rating.uncovered import Missed, refuse_if_any

SUM_LIMIT = 9 * 10**16
"""A sum of Decimal(38, 21) wraps unseen at 1.7 × 10^17; pieces that may come near are priced on
fractions."""
FEW_ROWS = 32
"""So few rows take less time one by one than their columns take to set up."""
_KEYS = ["line", "dimensions"]
_WHICH = (pl.col("terms").is_not_null(), pl.col("terms").is_null())


def price_usage(plans: Sequence[LinePlan], measured: Measured) -> pl.DataFrame:
    """USAGE with ``amount`` (Decimal(38,6)), rounded once to the minor units of the currency.

    Lines with a straight price are columns of 64-bit integers, others that fit are columns of
    decimals; the rest goes through the same steps on fractions.

    Raises:
        NotCovered: naming every line that nothing covers.
        OutOfRange: naming the first line that is beyond what is exact.
    """
    tables = once(plans, _tables)
    usage = measured.usage
    amounts = tables.straights.amounts(usage)
    if amounts.null_count():
        numbered = usage.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
        left = numbered.filter(amounts.is_null())
        others = _priced_otherwise(plans, measured, left.join(tables.lines, on="line"), tables.book)
        found = numbered.join(others, on="row", how="left", maintain_order="left")["amount"]
        amounts = amounts.fill_null(found)
    return usage.hstack([amounts])


def _priced_otherwise(
    plans: Sequence[LinePlan], measured: Measured, rows: pl.DataFrame, book: Book
) -> pl.DataFrame:
    """(row, amount) of ``rows``: as decimals where they fit, else on fractions."""
    missed: list[Missed] = []
    plain, composed = (rows.filter(own) for own in _WHICH)
    if rows.height <= FEW_ROWS:
        pieced = _piece_by_piece(plans, composed, measured, missed)
        amounts = pl.concat([_as_fractions(plans, plain, missed), pieced])
    else:
        columns = _as_columns(plain, book)
        rest = plain.join(columns, on="row", how="anti")
        pieced = _in_pieces(plans, composed, measured, missed)
        amounts = pl.concat([columns, _as_fractions(plans, rest, missed), pieced])
    refuse_if_any(missed)
    return amounts


@dataclass(frozen=True, slots=True)
class _Tables:
    """Which terms each line has, and the tables of these terms."""

    lines: pl.DataFrame
    book: Book
    straights: Straights


def _tables(plans: Planned) -> _Tables:
    terms = {id(p.terms): p.terms for p in plans.parts if not p.terms.pieced}
    numbers = {key: number for number, key in enumerate(terms)}
    facts = [(numbers.get(id(p.terms)), p.terms.currency, _whole(p)) for p in plans.parts]
    schema = {"terms": pl.Int64, "currency": pl.String, "whole": pl.Boolean}
    parts = pl.DataFrame(facts, schema=schema, orient="row")
    lines = parts[plans.part].with_row_index("line").cast({"line": pl.Int64})
    plain = pl.when("whole").then("terms").fill_null(-1)
    straights = Straights(list(terms.values()), lines.select(terms=plain)["terms"].to_numpy())
    return _Tables(lines, make_book(list(terms.values())), straights)


def _whole(part: Part) -> bool:
    """Whether the share of the period does not matter to the amount."""
    price = part.terms.price
    scaled = (price.included, price.minimum, price.maximum)
    return part.share == Share() or (part.share.fee == 1 and scaled == (None, None, None))


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


def _as_fractions(
    plans: Sequence[LinePlan], rows: pl.DataFrame, missed: list[Missed]
) -> pl.DataFrame:
    """(row, amount) of any rows of one quantity, one by one on Python's integers."""
    amounts = []
    columns = ("row", *_KEYS, "quantity", "divisor", "rest")
    for row, line, group, *number in rows.select(columns).iter_rows():
        begun = start_of(plans[line].terms, exact(*number))
        amounts.append((row, _amount(plans[line], group, begun, missed)))
    return pl.DataFrame(amounts, schema={"row": pl.Int64, "amount": AMOUNT}, orient="row")


def _amount(plan: LinePlan, group: str, begun: Priced, missed: list[Missed]) -> Decimal | None:
    """What a line comes to; null, and noted in ``missed``, where nothing covers it."""
    try:
        return rounded_amount(plan, begun)
    except NotCovered as error:
        missed.append(Missed(plan=plan, group=group, reason=error.detail))
        return None


def _in_pieces(
    plans: Sequence[LinePlan], rows: pl.DataFrame, measured: Measured, missed: list[Missed]
) -> pl.DataFrame:
    """(row, amount) of lines in pieces: these as columns where they fit, the rest on fractions."""
    bare = planned(plans).where(lambda part: _bare(part.terms))
    lines = rows["line"].unique()
    charged = charged_pieces(measured, plans, lines=lines.filter(pl.Series(bare[lines])))
    done = _only_charged(plans, rows, charged)
    rows = rows.join(done, on="row", how="anti")
    left = replace(measured, pieces=measured.pieces.join(charged, on=_KEYS, how="anti"))
    charged = charged.join(rows, on=_KEYS, how="semi")
    known = {(line, group): Fraction(total) for line, group, total in charged.iter_rows()}
    return pl.concat([done, _piece_by_piece(plans, rows, left, missed, known)])


def _piece_by_piece(
    plans: Sequence[LinePlan],
    rows: pl.DataFrame,
    measured: Measured,
    missed: list[Missed],
    known: Mapping[tuple[int, str], Fraction] | None = None,
) -> pl.DataFrame:
    """(row, amount) of lines in pieces on fractions; ``known`` are those charged already."""
    known = {} if known is None else known
    left = measured.pieces.partition_by(_KEYS, as_dict=True) if rows.height else {}
    amounts = []
    columns = ("row", *_KEYS, "quantity", "divisor", "rest")
    for row, line, group, *number in rows.select(columns).iter_rows():
        plan, total, part = plans[line], known.get((line, group)), left.get((line, group))
        pieces = () if part is None else measured.pieces_of(plan.terms, part)
        begun = replace(start_of(plan.terms, exact(*number)), pieces=pieces)
        begun = replace(begun, amount=total or Fraction(0))
        amounts.append((row, _amount(plan, group, begun, missed)))
    return pl.DataFrame(amounts, schema={"row": pl.Int64, "amount": AMOUNT}, orient="row")


def _only_charged(
    plans: Sequence[LinePlan], rows: pl.DataFrame, charged: pl.DataFrame
) -> pl.DataFrame:
    """(row, amount) of ``rows`` that were ``charged`` and that no later step acts on."""
    last = planned(plans).where(_last_step)
    own = rows.select("row", *_KEYS, "currency").filter(pl.Series(last[rows["line"]]))
    return round_amounts(own.join(charged, on=_KEYS)).select("row", "amount")


def _last_step(part: Part) -> bool:
    """Whether nothing happens to an amount once it is charged."""
    price = part.terms.price
    terms = (price.commitment, price.discount_percent, price.maximum, price.minimum)
    return part.terms.multiply == 1 and part.share.fee == 1 and terms == (None,) * len(terms)


def _bare(terms: Terms) -> bool:
    """Whether nothing happens to the units before they are charged, nor to each piece after."""
    price = terms.price
    return price.convert is None and price.included is None and price.commitment is None


def charged_pieces(
    measured: Measured, plans: Sequence[LinePlan], *, lines: pl.Series
) -> pl.DataFrame:
    """(line, dimensions, amount) of those ``lines`` whose pieces can all be columns: their sum."""
    if lines.is_empty():
        return pl.DataFrame(schema={"line": pl.Int64, "dimensions": pl.String, "amount": EXACT})
    own = measured.pieces.filter(pl.col("line").is_in(lines.implode()))
    book = make_book([_alone(plans[lines[0]].terms, charge) for charge in measured.charges])
    pieces = own.rename({"charge": "terms"}).join(book.terms, on="terms")
    fits = (pl.col("divisor") == 1) & (pl.col("quantity").abs() <= pl.col("units_max"))
    fitting = pieces.filter(fits.fill_null(value=False).all().over(_KEYS))
    numbered = fitting.with_columns(piece=pl.int_range(pl.len(), dtype=pl.Int64))
    bare = numbered.select("terms", "model", line="piece", units="quantity")
    amounts = charge_columns(bare, book).select("amount", piece="line")
    signed = numbered.join(amounts, on="piece", how="left").with_columns(
        amount=pl.when(pl.col("sign") < 0).then(-pl.col("amount")).otherwise("amount")
    )
    largest = pl.col("amount").abs().max().floor().cast(pl.Int128) + 1
    sums = signed.group_by(_KEYS).agg(
        total=pl.col("amount").sum(),
        size=largest * pl.len(),
        covered=pl.col("amount").is_not_null().all(),
    )
    safe = sums.filter(pl.col("covered") & (pl.col("size") < SUM_LIMIT))
    return safe.select(*_KEYS, amount=pl.col("total").cast(EXACT))


def _alone(template: Terms, charge: Charge) -> Terms:
    """A charge as the only term there is."""
    price = Price(product=template.product, charge=charge)
    return replace(template, price=price, multiply=Decimal(1), capacity=())


def rounded_amount(plan: LinePlan, line: Priced) -> Decimal:
    """What one line comes to, rounded to the minor units of its currency.

    Raises:
        NotCovered: nothing covers the units.
        OutOfRange: naming the line's contract and product.
    """
    try:
        priced = price_exactly(plan.terms, plan.share, line)
        return round_fraction(priced.amount, minor_units(plan.terms.currency))
    except OutOfRange as error:
        named = f"contract {plan.contract}, product {plan.terms.product}: {error.detail}"
        raise OutOfRange(named) from None
