"""Facts at rest must reach as far as the log is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.checks.coverage import check_coverage
from api.checks.report import Status
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, Seq, SpecId
from storage.log.frames import LogCorrupt
from storage.parquet.facts import VOIDS_KEY, ParquetFacts

NODE, SPEC = NodeId("n1"), SpecId("s")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Facts and compensations of two segments, to 10 and to 20."""
    facts = ParquetFacts(tmp_path)
    for last in (10, 20):
        facts.seal(SPEC, NODE, last=Seq(last), rows=FACTS.to_frame())
        facts.seal(VOIDS_KEY, NODE, last=Seq(last), rows=VOIDS.to_frame())
    return tmp_path


def check(directory: Path, *specs: SpecId, sealed: int):
    """The check over what the files say."""
    return check_coverage(ParquetFacts(directory), specs, node=NODE, log=lambda: sealed)


def test_facts_of_every_segment_are_well(directory: Path) -> None:
    """Nothing is missing, with specs or without."""
    assert check(directory, SPEC, sealed=20).status is Status.OK
    assert check(directory, sealed=20).status is Status.OK


@pytest.mark.parametrize(("key", "which", "seq"), [(SPEC, 0, 1), (SPEC, 1, 11), (VOIDS_KEY, 1, 11)])
def test_a_lost_file_is_named(directory: Path, key: SpecId, which: int, seq: int) -> None:
    """The first, which leaves a gap, and the last, which leaves nothing behind it."""
    sorted((directory / key).glob("*.parquet"))[which].unlink()
    found = check(directory, SPEC, sealed=20)
    assert found.first_difference is not None
    assert found.first_difference.seq == seq


def test_a_spec_without_any_file_is_named(directory: Path) -> None:
    """A meter whose facts were never written, or are all lost."""
    found = check(directory, SPEC, SpecId("other"), sealed=20)
    assert found.first_difference is not None
    assert found.first_difference.seq == 1


def test_a_log_that_cannot_be_listed_is_a_failed_check(directory: Path) -> None:
    """Not an exception: the other checks go on."""

    def broken() -> int:
        raise LogCorrupt("a segment is missing", file="segment", offset=0)

    found = check_coverage(ParquetFacts(directory), [SPEC], node=NODE, log=broken)
    assert found.status is Status.UNAVAILABLE
