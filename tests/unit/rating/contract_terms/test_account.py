"""What a term takes is whole minor units, and what is left adds up."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rating.contract_terms.account import Item, rounded, take, take_evenly
from rating.frames import LineKind

lefts = st.lists(st.integers(-500, 5_000), min_size=1, max_size=6)


def items(left: list[int]) -> list[Item]:
    """Items of some product, in order."""
    return [Item(kind=LineKind.USAGE, products=None, at=0, left=n) for n in left]


@given(left=lefts, percent=st.fractions(0, 1))
def test_a_share_of_each_adds_up_to_the_rounded_share_of_all(left, percent):
    """Not to the sum of rounded shares; each item gives its own share to within a unit."""
    found = items(left)
    taken = take(found, [item.left * percent for item in found])
    assert taken == rounded(sum(left) * percent)
    assert sum(item.left for item in found) == sum(left) - taken
    assert all(
        abs(before - item.left - before * percent) < 1
        for before, item in zip(left, found, strict=True)
    )


@given(left=lefts, wanted=st.fractions(-100, 9_000))
def test_an_amount_is_taken_up_to_what_there_is(left, wanted):
    """Never more than all of it, nothing from nothing, and no more than was asked for."""
    found = items(left)
    taken = take_evenly(found, wanted)
    whole = max(0, sum(left))
    assert taken == rounded(max(Fraction(0), min(wanted, Fraction(whole))))
    assert sum(item.left for item in found) == sum(left) - taken
