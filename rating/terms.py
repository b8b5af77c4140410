"""The terms of a line: everything that decides its amount besides how much was used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.charges import Flat
from catalog.ids import ProductId
from catalog.meters import Condition, Meter
from catalog.money import plain
from catalog.pricebooks import Invoicing, Price, Prorate
from rating.frames import LineKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one price means for one contract at one time, with every default filled in.

    ``price`` has no id, name, invoicing, prorate or effective dates left: two equal Terms rate
    alike, so a billing period is split only where they differ. ``multiply`` scales what is
    charged (a contract's override of a list price).
    """

    product: ProductId
    filter: tuple[Condition, ...]
    meter: Meter | None
    price: Price
    multiply: Decimal
    invoicing: Invoicing
    prorate: Prorate
    currency: str

    @property
    def kind(self) -> LineKind:
        """Usage where the quantity is metered, fixed where it is not."""
        return LineKind.USAGE if self.metered is not None else LineKind.FIXED

    @property
    def metered(self) -> Meter | None:
        """The meter that gives the quantity; null for flat fees and fixed quantities."""
        fixed = self.price.quantity is not None or isinstance(self.price.charge, Flat)
        return None if fixed else self.meter

    @property
    def discount_factor(self) -> Fraction | None:
        """What is left of an amount after the percent discount; above 1 for a surcharge."""
        percent = self.price.discount_percent
        return None if percent is None else 1 - Fraction(percent) / 100

    @property
    def version(self) -> str:
        """A digest of the content: equal terms have equal versions, today and in a year."""
        text = json.dumps(_plain(self), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def bare(price: Price) -> Price:
    """``price`` without what only says when it holds and how it is named."""
    return replace(
        price,
        id=None,
        name=None,
        invoicing=None,
        prorate=None,
        effective_from=None,
        effective_until=None,
    )


def _plain(value: Any) -> Any:
    """``value`` as JSON that is equal for equal content (1.50 and 1.5 are one number).

    Fields at their default are left out, so that a new term does not rename old versions.
    """
    if is_dataclass(value) and not isinstance(value, type):
        given = ((f, getattr(value, f.name)) for f in fields(value))
        content = [[f.name, _plain(v)] for f, v in given if v != f.default]
        return [type(value).__name__, *content]
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
