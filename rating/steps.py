"""The order of terms inside a line, written once: :data:`STEPS`.

Each step is said twice: on columns, for lines that :mod:`rating.book` found to fit Decimal(38,21),
and on fractions, for all others and for explaining any line. Property tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.pricebooks import Conversion, Rounding
from rating.book import Book
from rating.charges.base import EXACT, Part
from rating.charges.registry import MODELS
from rating.frames import LineKind
from rating.pieces import Piece
from rating.shares import Share
from rating.terms import Terms

CHARGE = "charge"
"""The step that turns units into an amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A line on its way: ``units`` left to price, then the ``amount`` they cost, both exact.

    ``pieces`` are what is priced: mostly one, of all the units.
    """

    units: Fraction
    pieces: tuple[Piece, ...]
    amount: Fraction = Fraction(0)
    parts: tuple[Part, ...] = ()

    def repieced(self, pieces: tuple[Piece, ...]) -> Priced:
        """The same with other pieces, whose units are now the line's (fees have none)."""
        counted = (piece.sign * piece.units for piece in pieces if not piece.fee)
        units = sum(counted, Fraction(0))
        return replace(self, pieces=pieces, units=units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One term of a price.

    ``columns`` takes and returns frames with ``units`` and ``amount`` and the terms' numbers
    beside them (see :class:`rating.book.Book`). ``stated`` is the term's number as it acts on
    this line, null where the price does not have it.
    """

    name: str
    columns: Callable[[pl.DataFrame, Book], pl.DataFrame]
    exact: Callable[[Priced, Terms, Share], Priced]
    stated: Callable[[Terms, Share], Fraction | None]


def _scaled(number: Decimal | None, share: Fraction) -> Fraction | None:
    return None if number is None else Fraction(number) * share


# 1 convert: units as priced from units as metered


def _convert(line: Priced, terms: Terms, share: Share) -> Priced:
    del share
    conversion = terms.price.convert
    if conversion is None:
        return line
    return line.repieced(
        tuple(p if p.fee else replace(p, units=converted(p.units, conversion)) for p in line.pieces)
    )


def converted(units: Fraction, conversion: Conversion) -> Fraction:
    """``units`` × multiply ÷ divide, then rounded to ``digits``; up and down are from and to 0."""
    exact = units * Fraction(conversion.multiply) / Fraction(conversion.divide)
    if conversion.round is Rounding.NONE:
        return exact
    scale = 10**conversion.digits
    scaled = abs(exact) * scale
    whole = scaled.numerator // scaled.denominator
    rest = scaled - whole
    match conversion.round:
        case Rounding.UP:
            whole += rest > 0
        case Rounding.HALF_UP:
            whole += rest >= Fraction(1, 2)
        case Rounding.DOWN:
            pass
    return Fraction(whole if exact >= 0 else -whole, scale)


def _convert_factor(terms: Terms, share: Share) -> Fraction | None:
    del share
    found = terms.price.convert
    return None if found is None else Fraction(found.multiply) / Fraction(found.divide)


def _same(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    """Nothing to do: lines that this step changes are never columns."""
    del book
    return lines


# 2 included: units that are free, taken from what was used (not from what was taken back)


def _include_columns(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    del book
    left = (pl.col("units") - pl.col("included")).clip(lower_bound=Decimal(0))
    applies = pl.col("included").is_not_null() & (pl.col("units") > 0)
    return lines.with_columns(units=pl.when(applies).then(left).otherwise("units"))


def _include(line: Priced, terms: Terms, share: Share) -> Priced:
    left = _included(terms, share)
    if left is None:
        return line
    pieces, whole = [], left
    for piece in line.pieces:
        taken = Fraction(0) if piece.fee else max(Fraction(0), min(left, piece.units))
        pieces.append(replace(piece, units=piece.units - taken))
        left = whole if terms.price.tiers_span_months is not None else left - taken
    return line.repieced(tuple(pieces))


def _included(terms: Terms, share: Share) -> Fraction | None:
    """Where tiers accumulate the included units do too: of the whole span, not of the line."""
    spanned = terms.price.tiers_span_months is not None
    return _scaled(terms.price.included, Fraction(1) if spanned else share.included)


# 3 charge: the price model


def charge_columns(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    """``lines`` with the exact ``amount`` of their ``units``; null where nothing covers them."""
    bare = lines.select("line", "terms", "units", "model")
    found = [
        model.columns(bare.filter(pl.col("model") == index), book.parameters[index])
        for index, model in enumerate(MODELS.values())
        if index in book.parameters
    ]
    amounts = pl.concat([pl.DataFrame(schema={"line": pl.Int64, "amount": EXACT}), *found])
    return lines.drop("amount", strict=False).join(amounts, on="line", how="left")


def _charge(line: Priced, terms: Terms, share: Share) -> Priced:
    del terms, share
    parts = tuple(part for piece in line.pieces for part in _parts(piece))
    return replace(line, parts=parts, amount=sum((p.amount for p in parts), Fraction(0)))


def _parts(piece: Piece) -> tuple[Part, ...]:
    parts = MODELS[type(piece.charge)].exact(piece.charge, piece.units)
    if piece.label is None and piece.sign == 1:
        return parts
    return tuple(
        replace(p, amount=piece.sign * p.amount, piece=piece.label, sign=piece.sign) for p in parts
    )


# 4 commitment: what each piece costs at least, and at which rate beyond


def _commit(line: Priced, terms: Terms, share: Share) -> Priced:
    commitment, promised = terms.price.commitment, _committed(terms, share)
    if commitment is None or promised is None:
        return line
    multiplier = commitment.overage_multiplier
    rate = Fraction(1 if multiplier is None else multiplier)
    amount = Fraction(0)
    for piece in line.pieces:
        cost = sum((part.amount for part in _parts(piece)), Fraction(0))
        short = promised if commitment.true_up else cost
        amount += short if cost <= promised else promised + (cost - promised) * rate
    return replace(line, amount=amount)


def _committed(terms: Terms, share: Share) -> Fraction | None:
    """The amount promised; a quantity promises what so many units cost.

    A split period's usage bears its share; a window promises it whole, and a fee is prorated next.
    """
    commitment = terms.price.commitment
    if commitment is None:
        return None
    whole = terms.price.bucket is not None or terms.kind is LineKind.FIXED
    borne = Fraction(1) if whole else share.terms
    if commitment.amount is not None:
        return Fraction(commitment.amount) * borne
    assert commitment.quantity is not None
    charge = terms.price.charge
    parts = MODELS[type(charge)].exact(charge, Fraction(commitment.quantity) * borne)
    return sum((part.amount for part in parts), Fraction(0))


# 5 prorate: the share of a fixed fee


def _prorate(line: Priced, terms: Terms, share: Share) -> Priced:
    del terms
    return replace(line, amount=line.amount * share.fee)


def _prorated(terms: Terms, share: Share) -> Fraction | None:
    del terms
    return None if share.fee == 1 else share.fee


# 6 multiply: a contract's factor on the list price


def _multiply(line: Priced, terms: Terms, share: Share) -> Priced:
    del share
    return replace(line, amount=line.amount * Fraction(terms.multiply))


def _factor(terms: Terms, share: Share) -> Fraction | None:
    del share
    return None if terms.multiply == 1 else Fraction(terms.multiply)


def _times(column: str) -> Callable[[pl.DataFrame, Book], pl.DataFrame]:
    def columns(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
        del book
        scaled = pl.col("amount") * pl.col(column).cast(EXACT)
        has = pl.col(column).is_not_null()
        return lines.with_columns(amount=pl.when(has).then(scaled).otherwise("amount"))

    return columns


# 7 discount: percent off


def _discount(line: Priced, terms: Terms, share: Share) -> Priced:
    del share
    factor = terms.discount_factor
    return line if factor is None else replace(line, amount=line.amount * factor)


# 8 maximum, 9 minimum


def _maximum_columns(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    del book
    return _where_priced(lines, pl.min_horizontal("amount", pl.col("maximum").cast(EXACT)))


def _minimum_columns(lines: pl.DataFrame, book: Book) -> pl.DataFrame:
    del book
    return _where_priced(lines, pl.max_horizontal("amount", pl.col("minimum").cast(EXACT)))


def _where_priced(lines: pl.DataFrame, amount: pl.Expr) -> pl.DataFrame:
    """Units that no tier covers have no amount, and a bound does not give them one."""
    return lines.with_columns(amount=pl.when(pl.col("amount").is_not_null()).then(amount))


def _maximum(line: Priced, terms: Terms, share: Share) -> Priced:
    most = _scaled(terms.price.maximum, share.terms)
    return line if most is None else replace(line, amount=min(line.amount, most))


def _minimum(line: Priced, terms: Terms, share: Share) -> Priced:
    least = _scaled(terms.price.minimum, share.terms)
    return line if least is None else replace(line, amount=max(line.amount, least))


STEPS: tuple[Step, ...] = (
    Step(name="convert", columns=_same, exact=_convert, stated=_convert_factor),
    Step(name="included", columns=_include_columns, exact=_include, stated=_included),
    Step(name=CHARGE, columns=charge_columns, exact=_charge, stated=lambda *_: None),
    Step(name="commitment", columns=_same, exact=_commit, stated=_committed),
    Step(name="prorate", columns=_same, exact=_prorate, stated=_prorated),
    Step(name="multiply", columns=_times("multiply"), exact=_multiply, stated=_factor),
    Step(
        name="discount",
        columns=_times("discount"),
        exact=_discount,
        stated=lambda terms, _: terms.discount_factor,
    ),
    Step(
        name="maximum",
        columns=_maximum_columns,
        exact=_maximum,
        stated=lambda terms, share: _scaled(terms.price.maximum, share.terms),
    ),
    Step(
        name="minimum",
        columns=_minimum_columns,
        exact=_minimum,
        stated=lambda terms, share: _scaled(terms.price.minimum, share.terms),
    ),
)
"""The order of terms. Rounding follows, once; then nothing else happens inside a line."""

AFTER_CHARGE = STEPS[[step.name for step in STEPS].index(CHARGE) + 1 :]
