"""Every bug that is planted is caught: what the simulation and the tests are worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bugs import Bug, applies, bugs, copy_tree, table, try_all

LEAST = 20
QUICK = ("ack_before_fsync", "write_error_goes_on")


def test_every_patch_still_fits(tmp_path: Path) -> None:
    """A patch that no longer applies proves nothing: it is written anew."""
    copy_tree(tmp_path / "tree")
    assert [bug.name for bug in bugs() if not applies(bug, tmp_path / "tree")] == []
    assert len(bugs()) >= LEAST
    assert all((Path(__file__).parents[2] / k).exists() for b in bugs() for k in _files(b))


def _files(bug: Bug) -> list[str]:
    return [killer for killer in bug.killers if "/" in killer]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_simulation_is_not_blind(tmp_path: Path) -> None:
    """Two of the bugs, in every run; ``make faults`` plants them all."""
    verdicts = list(try_all([b for b in bugs() if b.name in QUICK], tmp_path))
    assert all(verdict.caught for verdict in verdicts), table(verdicts)
