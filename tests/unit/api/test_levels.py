"""Average levels against the sum that a person would write, one change at a time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.levels import averages
from catalog.errors import OutOfRange
from catalog.events import INSTANT
from catalog.windows import TooManyWindows

NANOS_MAX = 10**26 - 1
amounts = st.one_of(st.integers(-NANOS_MAX, NANOS_MAX), st.integers(-5, 5))


def changed(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    """Changes of named levels: at which µs, by how many billionths."""
    schema = {"subject": pl.String, "time": pl.Int64, "nanos": pl.Int128}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("time").cast(INSTANT)
    )


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 120), amounts), max_size=12),
    edges=st.lists(st.integers(10, 100), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_each_change_counts_for_the_share_of_a_window_that_is_left(rows, edges):
    """Whatever the order, whatever came before; every window from the first change on."""
    expected = {}
    for name in {name for name, at, _ in rows if at < edges[-1]}:
        own = [(at, nanos) for subject, at, nanos in rows if subject == name]
        for window, (start, end) in enumerate(pairwise(edges)):
            if any(at < end for at, _ in own):
                held = sum(max(0, end - max(start, at)) * nanos for at, nanos in own)
                expected[(name,), window] = Fraction(held, (end - start) * 10**9)
    found = {
        (key, window): level for key, window, level in averages(changed(rows), ["subject"], edges)
    }
    assert found == expected


def test_what_does_not_fit_is_refused():
    """No sum of 128 bits wraps; a million rows is the most there is."""
    century = 100 * 366 * 86_400 * 10**6
    with pytest.raises(OutOfRange):
        list(averages(changed([("a", 0, NANOS_MAX)] * 300_000), ["subject"], [0, century]))
    with pytest.raises(TooManyWindows):
        list(averages(changed([("a", 0, 1), ("b", 0, 1)]), ["subject"], range(600_000)))
