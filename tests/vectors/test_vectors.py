"""Worked examples of prices from elsewhere: reproduced, or refused for a reason that is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vectors.check import verdict, verdicts
from tests.vectors.run import main

FILE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "pricing.jsonl"
FULL_UNITS = (
    "prices prorated units in tiers picked by full ones; here the units that are priced pick the"
    " tier (a level held for part of a period is a weighted_sum)"
)
REFUSED = {
    58: ("graduated_prorated_per_event", FULL_UNITS),
    59: ("graduated_prorated_per_event", FULL_UNITS),
    60: ("graduated_prorated_per_event", FULL_UNITS),
    134: ("volume_prorated", FULL_UNITS),
}
"""By line of the file: what our catalog does not say, and why."""


@pytest.mark.skipif(not FILE.exists(), reason="the examples are not beside this clone")
def test_every_example_is_reproduced_or_refused_with_its_reason():
    """Not one differs; the refused ones are exactly these."""
    found = list(verdicts(FILE.read_text(encoding="utf-8")))
    assert [str(v) for v in found if v.outcome == "differs"] == []
    assert {v.number: (v.model, v.detail) for v in found if v.outcome == "refused"} == REFUSED
    assert len(found) == 140


def example(model: str, params: object, usage: object, expected: str) -> dict[str, object]:
    """One line of such a file."""
    return {"model": model, "params": params, "usage": usage, "expected_amount": expected}


TIERS = [{"up_to": 10, "unit_amount": "2"}, {"up_to": None, "unit_amount": "1.005"}]


@pytest.mark.parametrize(
    ("vector", "outcome", "detail"),
    [
        (example("graduated", {"tiers": TIERS}, 12, "22.01"), "reproduced", ""),
        (example("graduated", {"tiers": TIERS}, 12, "22"), "reproduced", ""),
        (
            example("graduated", {"tiers": TIERS}, 12, "22.02"),
            "differs",
            "expected 22.02, rated 22.01",
        ),
        (
            example("graduated", {"tiers": TIERS, "floor": 3}, 12, "1"),
            "refused",
            "does not know: floor",
        ),
        (
            example("graduated", {"tiers": [{"up_to": None, "per": "1"}]}, 1, "1"),
            "refused",
            "tiers with per",
        ),
        (example("per_mille", {}, 12, "1"), "refused", "no such model: per_mille"),
        (example("graduated", {"tiers": 7}, 12, "1"), "refused", "a form that is not known"),
        (example("per_unit", {"unit_amount": "1e-20"}, 12, "1"), "refused", "12 decimals"),
        (example("volume_bounded", {"tiers": TIERS[:1]}, 11, "ERROR"), "reproduced", ""),
        (
            example(
                "graduated", {"tiers": TIERS, "rounding": "each tier component rounded"}, 11, "1"
            ),
            "refused",
            "rounds every tier",
        ),
        (
            example(
                "package_with_unit_conversion",
                {
                    "operation": "divide",
                    "factor": 10,
                    "rounding": "up",
                    "package_size": 2,
                    "amount": "3",
                },
                41,
                "9",
            ),
            "reproduced",
            "",
        ),
        (
            example(
                "stairstep_incremental",
                {"steps": [{"up_to": 5, "amount": "1"}, {"up_to": None, "amount": "4"}]},
                {"pre": 3, "quantity": 3},
                "3",
            ),
            "reproduced",
            "",
        ),
    ],
)
def test_a_model_is_read_by_its_params(vector, outcome, detail):
    """Params it was not shown are read too; what it does not know it says, and never guesses."""
    found = verdict(1, vector)
    assert found.outcome == outcome, found.detail
    assert detail in found.detail


def test_the_command_counts_and_fails_where_one_differs(tmp_path, capsys):
    """One line each, a closing count, 1 where a figure differs, 0 where none does."""
    right = example("per_unit", {"unit_amount": "0.001"}, 100000, "100")
    wrong = example("per_unit", {"unit_amount": "0.001"}, 100000, "101")
    file = tmp_path / "examples.jsonl"
    file.write_text(json.dumps(right) + "\n")
    assert main([str(file)]) == 0
    file.write_text(json.dumps(right) + "\n\n" + json.dumps(wrong) + "\n")
    assert main([str(file)]) == 1
    assert main([]) == 2
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "1 examples: 1 reproduced, 0 differs, 0 refused"
    assert told[-2].endswith("differs: expected 101, rated 100")
    assert told[-1] == "2 examples: 1 reproduced, 1 differs, 0 refused"
