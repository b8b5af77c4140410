"""What a charge model is: one formula, said twice (columns and fractions), and its bounds.

A model is one file beside this one and one entry in :mod:`rating.charges.registry`. Most take one
quantity (:class:`ChargeModel`); a few take more and price pieces of it (:class:`Composed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Generic, TypeVar

import polars as pl

from catalog.charges import Charge
from catalog.errors import DomainError
from catalog.pricebooks import Price

C = TypeVar("C", bound=Charge)

UNITS = pl.Decimal(38, 9)
PRICE = pl.Decimal(38, 12)
EXACT = pl.Decimal(38, 21)
"""Scale of a product of units and a price: 9 + 12 decimals. Polars keeps a column's scale in a
product and rounds silently, so both factors are cast to this first; then it is exact or raises."""

ZERO = Fraction(0)


class NotCovered(DomainError):
    """A quantity lies beyond the last tier, and the price says to refuse it.

    ``members`` has the ``lines`` it is so for, where they are known.
    """

    code = "quantity_not_covered"

    def __init__(self, detail: str, *, lines: Sequence[Mapping[str, object]] = ()) -> None:
        super().__init__(detail)
        self.lines = tuple(lines)
        self.members: dict[str, object] = {"lines": list(lines)} if lines else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One step of a charge as it is explained: what was priced, how, and what it came to.

    ``amount`` = ``sign`` × min(``priced`` × ``unit_price`` + ``flat_fee``, ``maximum``).
    ``priced`` is ``units``, or whole packages of ``package_size`` of them. Bounds are null outside
    tiers. ``piece`` says which piece of a line this is of, where it is priced in pieces; ``sign``
    is -1 for what is taken off again (units that were priced before).
    """

    units: Fraction
    priced: Fraction
    unit_price: Decimal
    amount: Fraction
    flat_fee: Decimal = Decimal(0)
    package_size: Decimal | None = None
    maximum: Decimal | None = None
    tier: int | None = None
    units_from: Decimal | None = None
    units_to: Decimal | None = None
    piece: str | None = None
    sign: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A promise: no number on the way exceeds ``fixed + per_unit × |units|`` in absolute value.

    It decides which lines may be columns: those that stay below what Decimal(38,21) holds.
    """

    fixed: Fraction
    per_unit: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeModel(Generic[C]):
    """One formula. ``columns`` and ``exact`` agree wherever ``columns`` may be used.

    Attributes:
        kind: the charge it prices.
        schema: the columns of ``rows``.
        rows: the charge as parameter rows for ``columns``.
        columns: (lines: ``line``, ``terms``, ``units`` Decimal(38,9); parameter rows with their
            ``terms``) to rows ``line``, ``amount`` Decimal(38,21), one per line; null (or no row)
            where the charge does not cover the units.
        exact: the same on a fraction, part by part; the amount is the sum of the parts.
            Raises :class:`NotCovered`.
        bound: see :class:`Bound`.
        prices: every amount of money in the charge.
        sizes: every number of units in it.
        bends: where the price of units stops being one straight line: between two neighbours of
            these and 0 it is ``intercept + units × rate``, a lower end excluded. Null (as for a
            model that does not say) where it is no such price, as with packages.
    """

    kind: type[C]
    schema: pl.Schema
    rows: Callable[[C], list[tuple[Any, ...]]]
    columns: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]
    exact: Callable[[C, Fraction], tuple[Part, ...]]
    bound: Callable[[C], Bound]
    prices: Callable[[C], list[Decimal]]
    sizes: Callable[[C], list[Decimal]]
    bends: Callable[[C], list[Decimal] | None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed(Generic[C]):
    """A model that needs more than one quantity: it prices a line in pieces.

    Attributes:
        kind: the charge it prices.
        applies: whether a charge of this kind is priced in pieces.
        clashes: terms of a price that have no meaning beside it, by name; they are refused.
    """

    kind: type[C]
    applies: Callable[[C], bool]
    clashes: Callable[[Price], list[str]]


def stated(price: Price, *names: str) -> list[str]:
    """Which of the named terms a price has."""
    held = {
        "convert": price.convert is not None,
        "included": price.included is not None,
        "bucket": price.bucket is not None,
        "hours": bool(price.hours),
        "group_by": bool(price.group_by),
        "tiers_span": price.tiers_span_months is not None,
        "quantity": price.quantity is not None,
    }
    return [name for name in names if held[name]]


def decimals_of(number: Decimal) -> int:
    """How many decimals ``number`` has, trailing zeros aside."""
    digits = f"{number:f}".partition(".")[2].rstrip("0")
    return len(digits)


def hundredth(percent: Decimal) -> Decimal:
    """``percent`` / 100, exact whatever the context."""
    sign, digits, exponent = percent.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, digits, exponent - 2))


def ceiling(numerator: Fraction, size: Decimal) -> int:
    """Whole packages of ``size`` that hold ``numerator`` units; none for none or fewer."""
    return max(0, -(-numerator // Fraction(size)))


def times(units: pl.Expr, price: pl.Expr) -> pl.Expr:
    """The exact product of a Decimal(38,9) and a Decimal(38,12), as Decimal(38,21)."""
    return units.cast(EXACT) * price.cast(EXACT)


def packages(units: pl.Expr, size: pl.Expr) -> pl.Expr:
    """Whole packages that hold ``units``, as Decimal(38,9). Exact: ``//`` is a true floor."""
    return -((-units.clip(lower_bound=Decimal(0))) // size)
