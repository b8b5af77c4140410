"""Amounts on 64-bit integers, for terms whose price is a straight line between a few bends.

Most lines are: so many units at a price, tier by tier, with a fee where a tier begins. Such a price
is ``intercept + units × rate`` in each piece, and a line costs one look for its piece, one product
and one division. Nothing is said twice: intercepts and rates are found by asking the exact formula
(:func:`rating.exactly.price_exactly`) at three points of every piece. What no proof covers (too
large a number for 64 bits, too many decimals, a price that is no such line) is left to wider
columns and to fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.errors import OutOfRange
from catalog.money import QUANTITY_DECIMALS, minor_units, nearest
from rating.book import units_max
from rating.charges.base import NotCovered
from rating.charges.registry import MODELS
from rating.exactly import price_exactly, start_of
from rating.frames import AMOUNT
from rating.shares import Share
from rating.terms import Terms

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LARGEST = 2**63 - 1
ROWS_MIN = 64
"""Terms of fewer rows than this are not worth asking the formula about."""
PIECES_MAX = 16
FAR = 10**18
"""No quantity is larger."""
SCALES = (QUANTITY_DECIMALS, 0)
"""Units are taken in billionths; where those are too large, in whole units."""
_CHUNK_ROWS = 1 << 15
_SHOWN_DECIMALS = 6
_DECIMALS_MAX = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Straight:
    """A price of units as pieces: piece n holds units above ``bends[n - 1]``, up to ``bends[n]``.

    ``pieces`` are (intercept, rate), null where nothing covers the units. ``lowest`` and
    ``highest`` bound the amount once it is rounded to ``minor`` decimals, which comes to the same
    as before. Exact for units up to ``units_max`` in absolute value.
    """

    bends: tuple[Fraction, ...]
    pieces: tuple[tuple[Fraction, Fraction] | None, ...]
    lowest: Fraction | None
    highest: Fraction | None
    minor: int
    units_max: Fraction


def straight_of(terms: Terms) -> Straight | None:
    """The pieces of ``terms``; null where it has others than straight ones, or too many."""
    limit = units_max(terms)
    own = MODELS[type(terms.price.charge)].bends(terms.price.charge) if limit is not None else None
    if own is None or limit is None:
        return None
    free = Fraction(terms.price.included or Decimal(0))
    bends = sorted({Fraction(0), free, *(max(Fraction(0), b) + free for b in map(Fraction, own))})
    if len(bends) >= PIECES_MAX:
        return None
    unbounded = replace(terms, price=replace(terms.price, minimum=None, maximum=None))
    try:
        pieces = tuple(_line(unbounded, points) for points in _points(bends))
    except (_NotStraight, OutOfRange):
        return None
    return Straight(
        bends=tuple(bends),
        pieces=pieces,
        lowest=_fraction(terms.price.minimum),
        highest=_fraction(terms.price.maximum),
        minor=minor_units(terms.currency),
        units_max=Fraction(limit),
    )


class _NotStraight(Exception):
    """A model has more bends than it says."""


def _fraction(number: Decimal | None) -> Fraction | None:
    return None if number is None else Fraction(number)


def _points(bends: Sequence[Fraction]) -> Iterator[tuple[Fraction, Fraction, Fraction]]:
    """Three places inside each piece: in those with an upper end, that one too."""
    first, last = bends[0], bends[-1]
    yield first, first - 1, first - FAR
    for low, high in pairwise(bends):
        yield high, (low + high) / 2, (3 * low + high) / 4
    yield last + 1, last + 2, last + FAR


def _line(
    terms: Terms, points: tuple[Fraction, Fraction, Fraction]
) -> tuple[Fraction, Fraction] | None:
    """Intercept and rate through the three points; null where nothing covers them."""
    try:
        costs = [price_exactly(terms, Share(), start_of(terms, at)).amount for at in points]
    except NotCovered:
        return None
    rate = (costs[1] - costs[0]) / (points[1] - points[0])
    intercept = costs[0] - rate * points[0]
    if intercept + rate * points[2] != costs[2]:
        raise _NotStraight
    return intercept, rate


@dataclass(frozen=True, slots=True)
class Scaled:
    """One Straight on integers, for units in 10^-scale. ``reach`` is up to how many it is exact.

    An amount is ``(intercept + units × rate) / power`` minor units of ``widen`` millionths each.
    """

    bends: list[int]
    intercepts: list[int]
    rates: list[int]
    covered: list[bool]
    power: int
    widen: int
    lowest: int
    highest: int
    reach: int


def in_units(price: Straight, scale: int) -> Scaled | None:
    """``price`` for units in 10^-``scale``; null where its own numbers are too large."""
    lines = [(Fraction(0), Fraction(0)) if p is None else p for p in price.pieces]
    decimals = max([price.minor, *(_decimals(number) for line in lines for number in line)])
    if scale + decimals - price.minor > _DECIMALS_MAX or decimals > _DECIMALS_MAX:
        return None
    intercepts = [int(line[0] * 10 ** (decimals + scale)) for line in lines]
    rates = [int(line[1] * 10**decimals) for line in lines]
    power, widen = 10 ** (scale + decimals - price.minor), 10 ** (_SHOWN_DECIMALS - price.minor)
    # Neither an amount on the way nor the rounded one in millionths exceeds 64 bits.
    room = min(LARGEST, (LARGEST // widen - 1) * power) - max(map(abs, intercepts))
    reach = min(room // max(1, *map(abs, rates)), int(price.units_max * 10**scale), LARGEST)
    bounds = [_rounded(bound, price.minor, widen) for bound in (price.lowest, price.highest)]
    if room < 0 or any(abs(bound) > LARGEST for bound in bounds if bound is not None):
        return None
    low, high = bounds
    return Scaled(
        bends=[min(LARGEST, int(bend * 10**scale // 1)) for bend in price.bends],
        intercepts=intercepts,
        rates=rates,
        covered=[piece is not None for piece in price.pieces],
        power=power,
        widen=widen,
        lowest=-LARGEST if low is None else low,
        highest=LARGEST if high is None else high,
        reach=reach,
    )


def _rounded(bound: Fraction | None, minor: int, widen: int) -> int | None:
    if bound is None:
        return None
    return nearest(bound.numerator * 10**minor, bound.denominator) * widen


def _decimals(number: Fraction) -> int:
    """How many decimals ``number`` has; more than there may be where they do not end."""
    for decimals in range(_DECIMALS_MAX + 1):
        if (10**decimals) % number.denominator == 0:
            return decimals
    return _DECIMALS_MAX + 1


class _Table:
    """Scaled prices as arrays: a row for each of ``terms``, a column for each piece."""

    def __init__(self, prices: Sequence[Scaled | None]) -> None:
        width = max((len(p.rates) for p in prices if p is not None), default=1)
        shape = (len(prices), width)
        self.width = width
        self.bends = np.full(shape, LARGEST, np.int64)
        self.intercepts, self.rates = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.covered = np.zeros(shape, np.bool_)
        self.power, self.widen = np.ones(len(prices), np.int64), np.ones(len(prices), np.int64)
        self.lowest = np.full(len(prices), -LARGEST, np.int64)
        self.highest = np.full(len(prices), LARGEST, np.int64)
        self.reach = np.full(len(prices), -1, np.int64)
        for row, price in enumerate(prices):
            if price is not None:
                self._fill(row, price)
        self.bounded = bool((self.lowest > -LARGEST).any() or (self.highest < LARGEST).any())

    def _fill(self, row: int, price: Scaled) -> None:
        self.bends[row, : len(price.bends)] = price.bends
        for name in ("intercepts", "rates", "covered"):
            getattr(self, name)[row, : len(price.rates)] = getattr(price, name)
        for name in ("power", "widen", "lowest", "highest", "reach"):
            getattr(self, name)[row] = getattr(price, name)

    def amounts(self, units: Integers, terms: Integers, out: Integers) -> Flags:
        """Write the rounded amounts, in millionths, to ``out``; true where they are right."""
        done = np.empty(len(units), np.bool_)
        for start in range(0, len(units), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            done[rows] = self._chunk(units[rows], terms[rows], out[rows])
        return done

    def _chunk(self, units: Integers, terms: Integers, out: Integers) -> Flags:
        reach = self.reach[terms]
        within = (units <= reach) & (units >= -reach)
        safe = units * within
        place = terms * self.width
        piece = place.copy()
        bends = self.bends.ravel()
        for number in range(self.width - 1):
            piece += safe > bends[place + number]
        exact = self.intercepts.ravel()[piece] + safe * self.rates.ravel()[piece]
        power = self.power[terms]
        size = np.abs(exact)
        whole = size // power
        # One half rounds up; a power of 1 leaves no rest, and half of it is kept above that.
        whole += size - whole * power >= np.maximum(power >> 1, 1)
        np.multiply(np.sign(exact) * whole, self.widen[terms], out=out)
        if self.bounded:
            np.minimum(out, self.highest[terms], out=out)
            np.maximum(out, self.lowest[terms], out=out)
        return within & self.covered.ravel()[piece]


class Straights:
    """The straight prices among ``terms``, worked out when enough rows ask for them.

    ``lines`` has for every line its place in ``terms``, -1 for lines that are to be left alone.
    """

    def __init__(self, terms: Sequence[Terms], lines: Integers) -> None:
        self._terms = terms
        self._lines = lines
        self._known: dict[int, Straight | None] = {}
        self._tables: dict[int, _Table] = {}

    def amounts(self, usage: pl.DataFrame) -> pl.Series:
        """``amount`` of USAGE, rounded to minor units, row by row; null where it is left open."""
        terms = self._lines[usage["line"].to_numpy()]
        terms = np.where(usage["divisor"].to_numpy() == 1, terms, -1)
        asked = np.bincount(terms[terms >= 0], minlength=len(self._terms)) >= ROWS_MIN
        if not asked.any():
            return pl.Series("amount", [None], dtype=AMOUNT).new_from_index(0, usage.height)
        tables = self._of(np.flatnonzero(asked))
        open_ = (terms >= 0) & asked[terms]
        out, done = np.zeros(usage.height, np.int64), np.zeros(usage.height, np.bool_)
        for scale in SCALES:
            rows = np.flatnonzero(open_ & ~done)
            if not len(rows):
                break
            units, fits = _units(usage["quantity"], rows, scale)
            rows, units = (rows, units) if fits.all() else (rows[fits], units[fits])
            if len(rows):
                found = np.empty(len(rows), np.int64)
                done[rows] = tables[scale].amounts(units, terms[rows], found)
                out[rows] = found
        return _amounts(out, done)

    def _of(self, asked: Integers) -> dict[int, _Table]:
        """Tables in which at least ``asked`` are; places are those of the terms."""
        new = [int(number) for number in asked if int(number) not in self._known]
        if new or not self._tables:
            found = {number: straight_of(self._terms[number]) for number in new}
            known = {**self._known, **found}
            prices = [known.get(number) for number in range(len(self._terms))]
            self._tables = {
                scale: _Table([None if p is None else in_units(p, scale) for p in prices])
                for scale in SCALES
            }
            self._known = known
        return self._tables


def _units(quantity: pl.Series, rows: Integers, scale: int) -> tuple[Integers, Flags]:
    """``rows`` of Decimal(38, 9) in 10^-``scale`` (9 or 0), and which of them that is exact for."""
    asked = quantity if len(rows) == len(quantity) else quantity.gather(rows)
    if scale < QUANTITY_DECIMALS:
        whole = asked.cast(pl.Int64, strict=False)
        fits = (whole.cast(asked.dtype) == asked).fill_null(value=False)
        return whole.fill_null(0).to_numpy(), fits.to_numpy()
    array = asked.rechunk().to_arrow()
    words = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)
    words = words[array.offset : array.offset + len(array)]
    low = np.ascontiguousarray(words[:, 0])
    return low, words[:, 1] == low >> 63


def _amounts(millionths: Integers, done: Flags) -> pl.Series:
    """Millionths as Decimal(38, 6), null where not ``done``."""
    words = np.empty((len(millionths), 2), np.int64)
    words[:, 0] = millionths
    np.right_shift(millionths, 63, out=words[:, 1])
    valid = None if done.all() else pa.py_buffer(np.packbits(done, bitorder="little"))
    buffers = [valid, pa.py_buffer(words)]
    kind = pa.decimal128(38, _SHOWN_DECIMALS)
    found = pl.from_arrow(pa.Decimal128Array.from_buffers(kind, len(millionths), buffers))
    assert isinstance(found, pl.Series)
    return found.alias("amount")
