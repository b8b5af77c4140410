"""Pairs, their ratio and its spread; and that nobody is always first."""

from __future__ import annotations

import pytest

from bench.gate import BenchFailed, expect, expect_accepted, expect_all_answered
from bench.load.generator import Sent
from bench.pairing import Paired, interleave


def test_the_ratio_is_the_median_of_the_rounds():
    """A slow minute slows both sides of a round, and leaves its ratio alone."""
    paired = Paired(ours=(50.0, 5.0, 55.0), theirs=(100.0, 10.0, 100.0))
    assert paired.ratios == (0.5, 0.5, 0.55)
    assert paired.ratio == 0.5
    low, high = paired.interval
    assert 0.5 <= low <= high <= 0.55


def test_sides_alternate_and_warm_ups_are_dropped():
    """A/B, B/A, A/B; each round is prepared once for both."""
    said: list[str] = []

    def side(name: str):
        def measure(number: int) -> float:
            said.append(f"{name}{number}")
            return float(number)

        return measure

    paired = interleave(
        side("a"), side("b"), rounds=2, prepare=lambda number: said.append(f"p{number}")
    )
    assert said == ["p-1", "b-1", "a-1", "p0", "a0", "b0", "p1", "b1", "a1"]
    assert paired == Paired(ours=(0.0, 1.0), theirs=(0.0, 1.0))


def sent(**changed: object) -> Sent:
    """What a perfect run counts."""
    import numpy as np

    perfect = {
        "requests": 3,
        "sent": 3,
        "answered": 3,
        "accepted": 300,
        "duplicates": 0,
        "with_rejections": 0,
        "elapsed_s": 1.0,
        "cpu_s": 0.1,
        "waiting_max": 0,
        "statuses": {"200": 3},
        "latencies_ns": np.array([1, 2, 3]),
    }
    return Sent(**(perfect | changed))  # type: ignore[arg-type]


def test_the_gate_lets_right_totals_pass():
    """Everything sent was answered with 200 and accepted."""
    expect_accepted(sent(), events=300, who="gateway")


@pytest.mark.parametrize(
    "wrong",
    [
        {"accepted": 299},
        {"duplicates": 1},
        {"with_rejections": 1},
        {"answered": 2},
        {"statuses": {"200": 2, "503": 1}},
    ],
)
def test_the_gate_fails_on_any_wrong_total(wrong: dict[str, object]):
    """One event too few, one copy, one rejection, one answer missing or other than 200."""
    with pytest.raises(BenchFailed):
        expect_accepted(sent(**wrong), events=300, who="gateway")


def test_the_gate_says_what_is_wrong():
    """With both values."""
    with pytest.raises(BenchFailed, match="bytes in the sink: 1 instead of 2"):
        expect("bytes in the sink", seen=1, wanted=2)
    expect_all_answered(sent(accepted=0), who="sink")
