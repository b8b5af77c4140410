"""One worked example as our catalog and events say it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

Tree = dict[str, Any]

CURRENCY = "USD"
MONTHLY = {"timing": "arrears", "every_months": "1"}


class NotSayable(Exception):
    """What an example asks for that our catalog does not say, in words."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event: when, of which meter, and what ``data`` says at other paths."""

    time: str
    value: str
    meter: str = "m"
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A document, usage, and the lines whose exact amounts (or quantities) are asked for.

    ``less`` is what was billed before; ``rounded``: lines as they are billed, each rounded once;
    ``whole_parts``: every part of the charge has to be whole minor units (the example rounds each).
    """

    prices: tuple[Tree, ...]
    events: tuple[Event, ...] = ()
    meters: Tree = field(default_factory=dict)
    products: Tree = field(default_factory=dict)
    contract: Tree = field(default_factory=dict)
    period: str = "2026-01"
    less: Fraction = Fraction(0)
    quantity: bool = False
    rounded: bool = False
    whole_parts: bool = False

    def document(self) -> Tree:
        """The public form: one list, one customer, one contract."""
        meter = {"event_type": "m", "aggregation": "sum", "value": "data.n"}
        metered = {name: {"name": name, "meter": name} for name in {"m": meter} | self.meters}
        return {
            "meters": {"m": meter} | self.meters,
            "products": metered | self.products,
            "pricebooks": {
                "b": {"currency": CURRENCY, "invoicing": MONTHLY, "prices": list(self.prices)}
            },
            "customers": {"c": {"name": "c", "subjects": ["s"]}},
            "contracts": {
                "k": {"customer": "c", "pricebook": "b", "start": "2026-01-01"} | self.contract
            },
        }

    def with_price(self, **terms: Any) -> Case:
        """The same with more terms on its one price."""
        (price,) = self.prices
        return replace(self, prices=(price | terms,))


def priced(charge: Tree, *, product: str = "m", **terms: Any) -> Case:
    """One price of the usual meter."""
    return Case(prices=({"product": product, "charge": charge, **terms},))


def used(value: object, *, month: int = 1, meter: str = "m") -> Event:
    """All the usage of a month as one event."""
    return Event(time=f"2026-{month:02d}-10T00:00:00+00:00", value=str(value), meter=meter)


def hourly(values: Any) -> tuple[Event, ...]:
    """One event an hour, from the first of the month on."""
    return tuple(
        Event(time=f"2026-01-{1 + n // 24:02d}T{n % 24:02d}:00:00+00:00", value=str(value))
        for n, value in enumerate(values)
    )
