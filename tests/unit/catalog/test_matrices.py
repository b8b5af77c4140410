"""Ties between matrix rows, against an oracle that tries every kind of usage."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.charges import ANY, MatrixRow, PerUnit
from catalog.grammar.matrices import ties

KEYS = ("a", "b", "c")
PRICE = PerUnit(unit_price=Decimal(1))

cells = st.sampled_from(["x", "y", ANY, None])
whens = st.tuples(cells, cells, cells).map(
    lambda values: tuple((k, v) for k, v in zip(KEYS, values, strict=True) if v is not None)
)
matrices = st.lists(whens.filter(bool), min_size=1, max_size=6).map(
    lambda found: [MatrixRow(when=when, charge=PRICE) for when in found]
)


def winners(rows: list[MatrixRow], usage: dict[str, str]) -> list[int]:
    """The matching rows that name most keys."""
    matching = [
        index
        for index, row in enumerate(rows)
        if all(usage[key] == value for key, value in row.named)
    ]
    most = max((len(rows[index].named) for index in matching), default=0)
    return [index for index in matching if len(rows[index].named) == most]


@given(rows=matrices)
@settings(max_examples=500, deadline=None)
def test_a_tie_is_reported_exactly_where_some_usage_has_two_winners(rows: list[MatrixRow]):
    """Over all values (and one that no row names), two winners exist iff a tie is reported."""
    contested = any(
        len(winners(rows, dict(zip(KEYS, values, strict=True)))) > 1
        for values in product(("x", "y", "other"), repeat=len(KEYS))
    )
    assert bool(ties(rows)) == contested


def test_a_finer_row_settles_a_crossing():
    """Rows by model and by region tie where they cross, unless a row names both."""
    by_model = MatrixRow(when=(("model", "gpt-4"),), charge=PRICE)
    by_region = MatrixRow(when=(("region", "eu"),), charge=PRICE)
    both = MatrixRow(when=(("model", "gpt-4"), ("region", "eu")), charge=PRICE)
    assert ties([by_model, by_region]) == [(0, 1)]
    assert ties([by_model, by_region, both]) == []
