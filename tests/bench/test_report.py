"""The page is made from what was kept, in the order the rows are registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report
from bench.pairing import Paired
from bench.registry import Context, Goal, Measured, Row, rows


def row(key: str, goal: Goal | None, measured: Measured) -> Row:
    """A row that was measured before."""
    return Row(key=key, title=key, against="the other", goal=goal, measure=lambda _: measured)


PAIR = Measured(
    unit="events/s",
    paired=Paired(ours=(40.0, 50.0, 60.0), theirs=(100.0, 100.0, 100.0)),
    method={"batch": "100"},
)
ROWS = [
    row("ingest/b", Goal(reach=0.4, stretch=0.6), PAIR),
    row("ingest/a", Goal(reach=10, at_most=True), Measured(unit="ms", value=12.0)),
]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The results of both rows."""
    context = Context(scratch=tmp_path, cache=tmp_path)
    for each in ROWS:
        entry = report.entry_of(each, each.measure(context), context, took_s=1.0)
        report.keep(entry, tmp_path / "results")
    return tmp_path / "results"


def test_a_goal_is_reached_from_its_own_side(kept: Path):
    """At least for a ratio, at most for a time."""
    found = report.load(kept / "ingest.json")
    assert (found["ingest/b"]["met"], found["ingest/a"]["met"]) == (True, False)


def test_the_page_lists_rows_as_registered(kept: Path):
    """With figure, goals and verdict; losses are shown like wins."""
    page = report.render(ROWS, kept)
    assert "| ingest/b | the other | 0.5× (0.4–0.6) | 0.4 | 0.6 | reached |" in page
    assert "| ingest/a | the other | 12 ms | ≤ 10 |  | **not reached** |" in page
    assert page.index("### ingest/b") < page.index("### ingest/a")


def test_measuring_again_replaces_only_that_row(kept: Path, tmp_path: Path):
    """Areas are measured by different people at different times."""
    again = Measured(unit="ms", value=8.0)
    context = Context(scratch=tmp_path, cache=tmp_path, quick=True)
    report.keep(report.entry_of(ROWS[1], again, context, took_s=1.0), kept)
    found = report.load(kept / "ingest.json")
    assert [found[key]["figure"] for key in ("ingest/a", "ingest/b")] == [8.0, 0.5]
    assert "reached (quick)" in report.render(ROWS, kept)


def test_every_row_is_named_after_its_area_and_once():
    """``area/name``; an unknown name is refused."""
    keys = [each.key for each in rows()]
    assert len(keys) == len(set(keys))
    assert {each.area for each in rows(["ingest"])} == {"ingest"}
    with pytest.raises(LookupError):
        rows(["nothing/like-it"])


def test_busy_neighbours_are_named(kept: Path):
    """A figure measured beside others says so, on the page too."""
    (entry, *_) = report.load(kept / "ingest.json").values()
    report.keep(entry | {"neighbours_cores": 0.8}, kept)
    assert "neighbours: 0.80 cores (too busy to be evidence)" in report.render(ROWS, kept)
