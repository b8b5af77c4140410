"""The terms of all lines as tables, and which lines those tables are exact for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.money import AMOUNT_LIMIT, PRICE_DECIMALS, QUANTITY_DECIMALS, from_units
from rating.charges.base import PRICE, UNITS, Bound, decimals_of
from rating.charges.registry import MODELS
from rating.terms import Terms

TERMS = pl.Schema(
    {
        "terms": pl.Int64(),
        "model": pl.Int64(),
        "included": UNITS,
        "multiply": PRICE,
        "discount": PRICE,
        "maximum": PRICE,
        "minimum": PRICE,
        "units_max": UNITS,
    }
)
"""One row a distinct Terms. ``model`` counts :data:`rating.charges.registry.MODELS`, ``discount``
is the factor that is left. Numbers are null where the price has no such term. ``units_max`` is the
largest quantity (in absolute value) for which every number on the way fits Decimal(38,21) without
rounding; null where none is sure to."""


@dataclass(frozen=True, slots=True)
class Book:
    """TERMS, and for each model that occurs its parameter rows with their ``terms``."""

    terms: pl.DataFrame
    parameters: dict[int, pl.DataFrame]


def make_book(terms: Sequence[Terms]) -> Book:
    """Tables of ``terms``, numbered in the order given."""
    models = {kind: index for index, kind in enumerate(MODELS)}
    rows = [(index, models[type(t.price.charge)], *_numbers(t)) for index, t in enumerate(terms)]
    return Book(
        terms=pl.DataFrame(rows, schema=TERMS, orient="row"),
        parameters={
            models[kind]: pl.DataFrame(
                [
                    (index, *row)
                    for index, t in enumerate(terms)
                    if type(t.price.charge) is kind and rows[index][-1] is not None
                    for row in model.rows(t.price.charge)
                ],
                schema={"terms": pl.Int64(), **model.schema},
                orient="row",
            )
            for kind, model in MODELS.items()
            if any(type(t.price.charge) is kind for t in terms)
        },
    )


def _numbers(terms: Terms) -> tuple[Decimal | None, ...]:
    """Included, multiply, discount, maximum, minimum and units_max; nulls if none are columns."""
    limit = units_max(terms)
    if limit is None:
        return (None,) * 6
    price = terms.price
    multiply = None if terms.multiply == 1 else terms.multiply
    return (price.included, multiply, _discount(terms), price.maximum, price.minimum, limit)


def _discount(terms: Terms) -> Decimal | None:
    factor = terms.discount_factor
    return None if factor is None else finite_decimal(factor)


def finite_decimal(number: Fraction) -> Decimal | None:
    """``number`` as a decimal; null where it has more than :data:`PRICE_DECIMALS` decimals."""
    scaled = number * 10**PRICE_DECIMALS
    if scaled.denominator != 1:
        return None
    return from_units(scaled.numerator, PRICE_DECIMALS)


def units_max(terms: Terms) -> Decimal | None:
    """Up to how many units the columns are exact for ``terms``; see :data:`TERMS`."""
    price = terms.price
    exact_only = price.convert is not None or price.commitment is not None
    if exact_only or not _decimals_fit(terms):
        return None
    bound = _bound(terms)
    room = AMOUNT_LIMIT - 1 - bound.fixed
    if room <= 0:
        return None
    units = min(room / bound.per_unit, Fraction(AMOUNT_LIMIT - 1))
    return from_units(int(units * 10**QUANTITY_DECIMALS), QUANTITY_DECIMALS)


def _bound(terms: Terms) -> Bound:
    """What no number on the way exceeds, the units themselves included."""
    price = terms.price
    charge = MODELS[type(price.charge)].bound(price.charge)
    factor = _at_least_one(terms.multiply) * _at_least_one(terms.discount_factor)
    limits = (price.maximum, price.minimum, price.included)
    own = sum((abs(Fraction(limit)) for limit in limits if limit is not None), Fraction(0))
    # Included units come off first, so they add nothing to what is priced.
    return Bound(
        fixed=charge.fixed * factor + own, per_unit=_at_least_one(charge.per_unit) * factor
    )


def _at_least_one(number: Fraction | Decimal | None) -> Fraction:
    return max(Fraction(1), abs(Fraction(1 if number is None else number)))


def _decimals_fit(terms: Terms) -> bool:
    """Whether units, prices and factors have few enough decimals for their exact product."""
    price, model = terms.price, MODELS[type(terms.price.charge)]
    money = [*model.prices(price.charge), *_given(price.maximum, price.minimum)]
    units = [*model.sizes(price.charge), *_given(price.included)]
    factors = [*_given(None if terms.multiply == 1 else terms.multiply)]
    if terms.discount_factor is not None:
        discount = _discount(terms)
        if discount is None:
            return False
        factors.append(discount)
    digits = max(map(decimals_of, money), default=0) + sum(map(decimals_of, factors))
    return digits <= PRICE_DECIMALS and all(decimals_of(u) <= QUANTITY_DECIMALS for u in units)


def _given(*numbers: Decimal | None) -> Iterable[Decimal]:
    return (number for number in numbers if number is not None)
