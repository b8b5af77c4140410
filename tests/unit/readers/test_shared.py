"""Shared pages against everybody reading and extracting alone."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from api.readers.shared import SharedPages, Wanted
from catalog.ids import Seq
from ingest.extract import extract_facts
from tests.logs_in_memory import MemoryTail, event, heartbeat, spec, specs, void

SPECS = [spec(), spec(None)]

rows = st.lists(st.sampled_from(["call", "other", "void", "heartbeat"]), min_size=0, max_size=6)
steps = st.tuples(
    rows,
    st.integers(0, 40),
    st.integers(1, 12),
    st.none() | st.integers(1, 12),
    st.lists(st.sampled_from(SPECS), unique_by=lambda one: one.id),
)


def record(kind: str, number: int) -> dict:
    """A record of the log."""
    match kind:
        case "void":
            return void(1)
        case "heartbeat":
            return heartbeat()
        case _:
            return event(f'{{"x":"{number}"}}', kind=kind)


@settings(max_examples=60)
@given(st.lists(steps, max_size=12), st.integers(1, 20))
def test_a_page_is_what_its_reader_would_have_read_alone(plan, rows_kept: int):
    """Whoever reads what, in whatever order, however little is kept, while the log grows."""
    tail = MemoryTail()
    pages = SharedPages(lambda: specs(SPECS[0]), rows_kept=rows_kept)
    for appended, after, rows_max, ahead, wanted in plan:
        tail.append(*(record(kind, number) for number, kind in enumerate(appended)))
        place = Seq(min(after, tail.records.height))
        until = None if ahead is None else Seq(place + ahead)
        page = Wanted(after=place, rows_max=rows_max, until=until)
        found = pages.read(tail.node, tail, page, specs={one.id: one for one in wanted})
        last = min(place + rows_max, place + rows_max if until is None else until)
        alone = tail.records.filter(pl.col("seq").is_between(place + 1, last))
        assert_frame_equal(alone, found.records)
        facts = extract_facts(alone, wanted, node=tail.node)
        assert {one.id for one in wanted} == found.facts.keys()
        for one in wanted:
            assert_frame_equal(facts.filter(pl.col("spec") == one.id), found.of(one.id))


def test_what_one_has_read_is_not_read_again():
    """Three readers at the end of a log read it once."""
    tail, pages = MemoryTail(), SharedPages(lambda: specs(*SPECS))
    tail.append(*(event() for _ in range(5)))
    for wanted in SPECS, SPECS[:1], []:
        page = Wanted(after=Seq(0), rows_max=5)
        found = pages.read(tail.node, tail, page, specs={one.id: one for one in wanted})
        assert found.records.height == 5
    assert tail.reads == 1
