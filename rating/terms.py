"""The terms of a line: everything that decides its amount besides how much was used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.charges import Capacity, Flat, Percentage
from catalog.ids import ProductId
from catalog.meters import Condition, Meter
from catalog.money import plain
from catalog.pricebooks import Invoicing, Price, Prorate
from rating.charges.registry import composed
from rating.frames import LineKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one price means for one contract at one time, with every default filled in.

    ``price`` has no id, name, invoicing, prorate or effective dates left: two equal Terms rate
    alike, so a billing period is split only where they differ. ``multiply`` scales what is
    charged (a contract's override of a list price). ``trial`` tells usage in a trial apart.
    ``capacity`` are the meters of a capacity charge, by id.
    """

    product: ProductId
    filter: tuple[Condition, ...]
    meter: Meter | None
    price: Price
    multiply: Decimal
    invoicing: Invoicing
    prorate: Prorate
    currency: str
    trial: bool = False
    capacity: tuple[Meter, ...] = ()

    @property
    def kind(self) -> LineKind:
        """Usage where the amount follows from what is metered, fixed where it does not."""
        return LineKind.USAGE if self.counted else LineKind.FIXED

    @property
    def metered(self) -> Meter | None:
        """The meter that gives the quantity; null for flat fees, fixed quantities and plans."""
        charge = self.price.charge
        fixed = self.price.quantity is not None or isinstance(charge, Flat | Capacity)
        return None if fixed else self.meter

    @property
    def counted(self) -> tuple[Meter, ...]:
        """Every meter whose usage the amount follows from."""
        return self.capacity if self.metered is None else (self.metered,)

    @property
    def per_event(self) -> bool:
        """Whether each event has a price of its own (a percentage with terms for each)."""
        charge = self.price.charge
        return isinstance(charge, Percentage) and composed(charge) is not None

    @property
    def pieced(self) -> bool:
        """Whether a line is priced in pieces (rows, windows, events), not from one quantity."""
        price = self.price
        spread = price.bucket is not None or price.tiers_span_months is not None
        return composed(price.charge) is not None or (spread and self.metered is not None)

    @property
    def discount_factor(self) -> Fraction | None:
        """What is left of an amount after the percent discount; above 1 for a surcharge."""
        percent = self.price.discount_percent
        return None if percent is None else 1 - Fraction(percent) / 100

    @property
    def version(self) -> str:
        """A digest of the content: equal terms have equal versions, today and in a year."""
        return version_of(self)


def version_of(stated: object) -> str:
    """A digest of what a catalog states: 16 hexadecimal digits."""
    text = json.dumps(_plain(stated), separators=(",", ":"))
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
    if isinstance(value, date | timedelta):
        return str(value)
    return value
