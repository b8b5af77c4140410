"""What statistics say of rows is true of every one of them, and what they do not say is read."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.events import FACTS
from storage.parquet.files import write_durably
from storage.parquet.known import known_rows

T0 = datetime(2026, 3, 27, tzinfo=UTC)
instants = st.integers(-(10**12), 10**12).map(lambda n: T0 + timedelta(microseconds=n))
texts = st.sampled_from(["{}", '{"m":"x"}', '{"m":"' + "y" * 80 + '"}', '{"m":"' + "é" * 40 + '"}'])
values = st.one_of(st.none(), st.integers(-(10**25), 10**25).map(lambda n: Decimal(n).scaleb(-9)))
names = st.sampled_from(["a", "b", "\U0010ffff" * 30, "z" * 100, "é"])
rows = st.lists(st.tuples(names, instants, instants, values, texts), min_size=1, max_size=40)


def frame(found: list[tuple]) -> pl.DataFrame:
    """FACTS of one node."""
    made = [
        {
            "node": "n1", "seq": seq, "spec": "s", "subject": subject, "time": time,
            "received_at": received, "value": value, "text": None, "dimensions": text,
        }
        for seq, (subject, time, received, value, text) in enumerate(found, start=1)
    ]  # fmt: skip
    return pl.DataFrame(made, FACTS)


@settings(deadline=None, max_examples=60)
@given(found=rows, group_rows=st.integers(1, 12))
def test_what_is_known_holds_for_every_row(found, group_rows):
    """Ranges, constants and absent values, for pieces that are all rows in their order."""
    facts = frame(found)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "facts" / "n1.parquet"
        write_durably(facts, path, row_group_rows=group_rows)
        pieces = list(known_rows(path, lambda _: True))
    place = 0
    for piece in pieces:
        assert piece.first == place
        own = facts.slice(place, piece.count)
        place += piece.count
        for column, said in (("time", piece.time), ("received_at", piece.received)):
            low, high = own[column].to_physical().min(), own[column].to_physical().max()
            assert said is None or said[0] <= low <= high <= said[1]
        if piece.subjects is not None:
            assert piece.subjects[0] <= min(own["subject"])
            assert max(own["subject"]) <= piece.subjects[1]
        if piece.dimensions is not None:
            assert set(own["dimensions"]) == {piece.dimensions}
        assert not piece.valueless or own["value"].null_count() == own.height
    assert place == facts.height


def test_plain_columns_are_known(tmp_path: Path):
    """A count's facts: their times, no values, one text; what is not wanted is passed over."""
    facts = frame([("a", T0, T0, None, "{}"), ("b", T0 + timedelta(hours=1), T0, None, "{}")])
    path = tmp_path / "facts" / "n1.parquet"
    write_durably(facts, path)
    (known,) = known_rows(path, lambda _: True)
    start = int(facts["time"].to_physical()[0])
    assert known.time == (start, start + 3_600_000_000)
    assert (known.dimensions, known.valueless, known.subjects) == ("{}", True, ("a", "b"))
    assert list(known_rows(path, lambda known: known.count > 2)) == []
