"""The report of a fault run says what was tried, and fails where it proves nothing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.report import Report
from tests.planted.bugs import Verdict, bugs
from tests.simulation.seeds import RARE, Result, run_some


def test_a_report_tells_seeds_comparisons_paths_and_bugs(tmp_path: Path) -> None:
    """In Markdown and in JSON; a path that no seed took fails the run."""
    caught = Verdict(bug=bugs()[0], how="seed 3: lost", seconds=1.0)
    report = Report(commit="abc", simulation=run_some(range(2)), ledger=Result(), planted=[caught])
    report.write(tmp_path)
    assert not report.passed
    told = json.loads((tmp_path / "faults.json").read_text())
    assert told["simulation"]["seeds"] == 2
    assert "runs merged" in told["never_reached"]
    page = (tmp_path / "faults.md").read_text()
    assert "Not finished; so far: **Failed.**" in page
    assert "| runs merged | **never** |" in page
    assert f"| {caught.bug.what} | seed 3: lost |" in page
    report.simulation.seen.update(RARE)
    assert report.passed


def test_a_bug_that_survives_fails_the_run() -> None:
    """As does a seed that breaks a promise."""
    everything = Result(seeds=1)
    everything.seen.update(RARE)
    report = Report(commit="abc", simulation=everything, ledger=Result())
    assert report.passed
    report.planted = [Verdict(bug=bugs()[0], how="", seconds=1.0)]
    assert not report.passed
    report.planted = []
    report.ledger.failures.append((7, "oversold"))
    assert not report.passed
