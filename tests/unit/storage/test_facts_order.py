"""Facts files are sorted by numbers; the order is the columns' own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from catalog.events import FACTS
from storage.parquet.order import ORDER, in_file_order

texts = st.text(max_size=3)
near = st.integers(0, 3).map(
    lambda us: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
far = st.datetimes(timezones=st.just(UTC))


@given(
    rows=st.lists(st.tuples(texts, texts, st.one_of(near, far)), max_size=30),
    ascending=st.booleans(),
)
def test_it_is_the_columns_order(rows: list[tuple[str, str, datetime]], ascending: bool) -> None:
    """Whatever the texts and however far apart the times."""
    facts = pl.DataFrame(
        [
            dict.fromkeys(FACTS)
            | {"seq": seq, "subject": subject, "dimensions": dimensions, "time": time}
            for seq, (subject, dimensions, time) in enumerate(rows)
        ],
        schema=FACTS,
    )
    facts = facts if ascending else facts.reverse()
    assert in_file_order(facts).equals(facts.sort(ORDER))
