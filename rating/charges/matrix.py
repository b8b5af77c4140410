"""Matrix: usage is priced by the row its dimensions match, each subset as a quantity of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catalog.charges import Beyond, Flat, Matrix, MatrixRow, Percentage
from catalog.pricebooks import Price
from rating.charges.base import Composed, stated
from rating.charges.percentage import per_event

NO_ROW = -1
"""The row of usage that no row matches."""

Named = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a matrix, to be looked up: by the keys they name, those with most first.

    Compared by identity: make one a matrix.
    """

    shapes: tuple[tuple[tuple[str, ...], Mapping[Named, int]], ...]

    @classmethod
    def of(cls, charge: Matrix) -> Rows:
        """The index of ``charge``."""
        shapes: dict[tuple[str, ...], dict[Named, int]] = {}
        for index, row in enumerate(charge.rows):
            keys = tuple(key for key, _ in row.named)
            shapes.setdefault(keys, {})[row.named] = index
        finest_first = sorted(shapes.items(), key=lambda shape: (-len(shape[0]), shape[0]))
        return cls(tuple(finest_first))

    def match(self, values: Mapping[str, str]) -> int:
        """The row that names most of ``values`` and nothing else; :data:`NO_ROW` for none.

        ``*`` asks for nothing, so it matches an absent dimension too. That rows with equally many
        keys do not match the same usage is seen to when a matrix is stated.
        """
        for keys, rows in self.shapes:
            if all(key in values for key in keys):
                found = rows.get(tuple((key, values[key]) for key in keys))
                if found is not None:
                    return found
        return NO_ROW


def row_text(row: MatrixRow) -> str:
    """The row as explanations name it: what it asks for."""
    return ", ".join(f"{key}={value}" for key, value in row.when)


def refuses(charge: Matrix) -> bool:
    """Whether usage that no row matches is refused, and not free."""
    return charge.otherwise is Beyond.REFUSE


def is_fee(charge: object) -> bool:
    """Whether a row asks a fee of its own: due once where anything was used in it."""
    return isinstance(charge, Flat)


def _clashes(price: Price) -> list[str]:
    assert isinstance(price.charge, Matrix)
    fine = any(isinstance(r.charge, Percentage) and per_event(r.charge) for r in price.charge.rows)
    terms = stated(price, "quantity")
    if price.included is not None and price.tiers_span_months is not None:
        terms.append("included and tiers_span")
    return [*terms, *(["a row with a percentage of each event"] if fine else [])]


MODEL = Composed(kind=Matrix, applies=lambda _: True, clashes=_clashes)
"""Included units come off the rows in the order they are written; conversions act on each."""
