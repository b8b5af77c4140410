"""One line through every step on fractions: what columns are held to, and what explains a line."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from rating.pieces import Piece
from rating.shares import Share
from rating.steps import AFTER_CHARGE, STEPS, Priced
from rating.terms import Terms


def start_of(terms: Terms, units: Decimal | Fraction) -> Priced:
    """A line of one quantity before anything happened to it."""
    units = Fraction(units)
    return Priced(units=units, pieces=(Piece(charge=terms.price.charge, units=units),))


def price_exactly(terms: Terms, share: Share, line: Priced) -> Priced:
    """One line through every step, on fractions; not rounded.

    A line without pieces has been charged already: the steps up to that are passed over.
    """
    for step in STEPS if line.pieces else AFTER_CHARGE:
        line = step.exact(line, terms, share)
    return line
