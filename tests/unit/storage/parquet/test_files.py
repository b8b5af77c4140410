"""Facts files: all at once or not at all, and no gap or overlap by mistake."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from catalog.events import FACTS
from catalog.ids import NodeId, Seq, SpecId
from storage.parquet.facts import NotContiguous, ParquetFacts
from storage.parquet.files import file_name, list_files, write_durably

NODE, SPEC = NodeId("n-1"), SpecId("s")


def test_a_name_says_node_and_range(tmp_path: Path):
    """Node names may hold dashes; what follows a gap, and what is no facts file, is left out."""
    for first, last in ((1, 4), (5, 5), (7, 9)):
        (tmp_path / file_name(node=NODE, first=first, last=last)).touch()
    (tmp_path / file_name(node=NodeId("late"), first=2, last=3)).touch()
    (tmp_path / "notes.parquet").touch()
    found = list_files(tmp_path)
    assert [(file.first, file.last) for file in found[NODE]] == [(1, 4), (5, 5)]
    assert not found.get(NodeId("late"))


def test_a_write_that_fails_leaves_nothing_under_the_name(tmp_path: Path):
    """The name appears only with the whole content behind it."""
    path = tmp_path / "s" / "n-1.parquet"
    unwritable = pl.DataFrame({"object": [object()]}, schema={"object": pl.Object})
    with pytest.raises(BaseException, match=r"[Oo]bject"):
        write_durably(unwritable, path)
    assert not path.exists()
    write_durably(FACTS.to_frame(), path)
    assert [path.name] == [found.name for found in path.parent.glob("*.parquet")]


def test_ranges_follow_each_other(tmp_path: Path):
    """Going back, in memory or in files, is a bug that is refused."""
    facts = ParquetFacts(tmp_path)
    nothing = FACTS.to_frame()
    facts.extend(SPEC, NODE, last=Seq(5), rows=nothing)
    with pytest.raises(NotContiguous):
        facts.extend(SPEC, NODE, last=Seq(4), rows=nothing)
    assert facts.tail_until(SPEC, NODE, last=Seq(6)) is None
    facts.seal(SPEC, NODE, last=Seq(3), rows=nothing)
    with pytest.raises(NotContiguous):
        facts.seal(SPEC, NODE, last=Seq(3), rows=nothing)
    assert (facts.state(SPEC, NODE).sealed, facts.state(SPEC, NODE).reached) == (3, 5)


def test_a_drop_forgets_files_and_memory(tmp_path: Path):
    """Afterwards everything starts from record 1, also for a store opened anew."""
    facts = ParquetFacts(tmp_path)
    facts.seal(SPEC, NODE, last=Seq(3), rows=FACTS.to_frame())
    facts.extend(SPEC, NODE, last=Seq(5), rows=FACTS.to_frame())
    assert facts.keys == (SPEC,)
    facts.drop()
    for store in (facts, ParquetFacts(tmp_path)):
        assert (store.keys, store.state(SPEC, NODE).reached) == ((), 0)
