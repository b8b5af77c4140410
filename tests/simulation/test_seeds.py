"""The simulation: nothing acknowledged is lost, nothing is counted twice, nothing is invented."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import corpus, report_lines, run_seeds, run_some
from tests.simulation.world import simulate


@pytest.mark.timeout(600)
def test_no_seed_breaks_a_promise_and_every_rare_path_is_reached() -> None:
    """Three hundred seeds; a failure names the seed that shows it again."""
    result = run_seeds(0, 300)
    assert not result.failures, "\n".join(report_lines(result))
    assert not result.never_reached, result.never_reached


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_three_hundred_more() -> None:
    """Seeds beyond those; ``make faults`` has thousands."""
    result = run_seeds(1_000, 300)
    assert not result.failures, "\n".join(report_lines(result))


def test_seeds_that_failed_once() -> None:
    """Each found something; none may find it again."""
    assert run_some(corpus()).failures == []


def test_a_seed_is_a_run() -> None:
    """The same seed comes across the same things, or a failure could not be looked at."""
    assert simulate(5) == simulate(5)
