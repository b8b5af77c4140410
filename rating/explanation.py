"""What an explanation of a line says, and how it writes numbers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from catalog.clock import Micros, to_rfc3339
from catalog.money import plain
from catalog.periods import FOREVER
from rating.book import finite_decimal
from rating.engine import ENGINE


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken:
    """One step of the order of terms: what it acted on and what came out of it.

    Before and after are units up to the charge, then amounts; the charge takes units and gives an
    amount. ``stated`` is the term's number as it acts on this line (an included quantity by its
    share of the period); null for the charge, whose parts are listed.
    """

    step: str
    before: str
    after: str
    stated: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One line, explained. Numbers are exact text: a decimal, or a fraction ``n/d``.

    ``pieces`` are what a line is priced in where that is more than its one quantity: each as it
    was measured (``quantity``), converted, and after included units came off (``units``).
    """

    line: dict[str, str | None]
    price: dict[str, str | int | None]
    quantity: str
    event_count: int
    steps: tuple[StepTaken, ...]
    pieces: tuple[dict[str, str | None], ...] = ()
    parts: tuple[dict[str, str | None], ...]
    exact_amount: str
    amount: str
    rounding: dict[str, str | int]
    as_of: str
    engine: str = ENGINE

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "line": self.line,
            "price": self.price,
            "quantity": self.quantity,
            "event_count": self.event_count,
            "steps": [
                {name: getattr(step, name) for name in StepTaken.__dataclass_fields__}
                for step in self.steps
            ],
            "pieces": list(self.pieces),
            "parts": list(self.parts),
            "exact_amount": self.exact_amount,
            "amount": self.amount,
            "rounding": self.rounding,
            "as_of": self.as_of,
            "engine": self.engine,
        }


def number_text(number: Fraction) -> str:
    """An exact number as text: a decimal where it has at most 12 decimals, else ``n/d``."""
    decimal = finite_decimal(number)
    if decimal is None:
        return f"{number.numerator}/{number.denominator}"
    return plain(decimal)


def moment_text(instant: int) -> str | None:
    """An instant in RFC 3339 UTC; null for no end."""
    return None if instant >= FOREVER else to_rfc3339(Micros(instant))
