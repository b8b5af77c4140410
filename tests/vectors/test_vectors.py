"""Worked examples of prices from elsewhere: reproduced, or refused for a reason that is told."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors.check import verdict, verdicts
from tests.vectors.run import main

FILE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "pricing.jsonl"
FULL_UNITS = (
    "prices prorated units in tiers picked by full ones; here the units that are priced pick the"
    " tier (a level held for part of a period is a weighted_sum)"
)
REFUSED = {
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


def test_examples_of_our_own_are_reproduced():
    """Models with other params, and models that differ by what is around them: all by hand."""
    text = (Path(__file__).parent / "ours.jsonl").read_text(encoding="utf-8")
    found = list(verdicts(text))
    assert [str(v) for v in found if v.outcome != "reproduced"] == []
    assert len(found) == 88


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
        (
            example("graduated", {"tiers": TIERS, "bounds": "lower inclusive"}, 10, "1"),
            "refused",
            "bounds: lower inclusive",
        ),
        (
            example("stairstep", {"steps": [], "zero_usage": "first band"}, 0, "1"),
            "refused",
            "zero usage: first band",
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


@st.composite
def variants(draw):
    """An example like those of the file with figures of its own, and what a person makes of it."""
    money = st.decimals(0, 50, places=3).map(str)
    bounds = sorted(draw(st.lists(st.integers(1, 60), min_size=1, max_size=3, unique=True)))
    units = draw(st.decimals(0, 90, places=2))
    if draw(st.booleans()):
        tiers = [
            {"up_to": b, "unit_amount": draw(money), "flat_amount": draw(money)} for b in bounds
        ]
        tiers.append({"up_to": None, "unit_amount": draw(money)})
        model = draw(st.sampled_from(["graduated", "volume"]))
        return model, {"tiers": tiers}, units, tiered_by_hand(model, tiers, Fraction(units))
    size, price, free = bounds[0], draw(money), draw(st.integers(0, 20))
    params = {"package_size": size, "amount": price, "free_units": free}
    packages = max(0, -((free - Fraction(units)) // size))
    return "package", params, units, packages * Fraction(price)


def tiered_by_hand(model: str, tiers: list[dict], units: Fraction) -> Fraction:
    """Tier by tier, as one would on paper: bounds inclusive above, a fee where a unit lies."""
    total, floor = Fraction(0), Fraction(0)
    for tier in tiers:
        top = units if tier["up_to"] is None else min(units, Fraction(tier["up_to"]))
        inside = top - floor if model == "graduated" else units
        reached = units > floor and (model == "graduated" or top == units)
        if reached:
            total += inside * Fraction(tier["unit_amount"]) + Fraction(tier.get("flat_amount", 0))
        floor = top
    return total


@settings(max_examples=60, deadline=None)
@given(variant=variants())
def test_figures_it_was_not_shown_are_reproduced(variant):
    """The translator knows models, not examples: other tiers, packages and quantities rate too."""
    model, params, units, amount = variant
    shown = f"{Decimal(amount.numerator) / Decimal(amount.denominator):f}"
    found = verdict(1, example(model, params, str(units), shown))
    assert found.outcome == "reproduced", found


@pytest.mark.parametrize(
    ("model", "params", "usage", "expected"),
    [
        ("volume_prorated", {"tiers": TIERS}, {"full_units": 12, "prorated_units": "12"}, "12.06"),
        (
            "graduated_prorated_per_event",
            {"tiers": TIERS},
            {"full": [4, 8], "prorated": ["4", "8.0"]},
            "22.01",
        ),
    ],
)
def test_units_that_count_in_full_are_not_prorated(model, params, usage, expected):
    """A rule for shares of units says nothing of whole ones."""
    assert verdict(1, example(model, params, usage, expected)).outcome == "reproduced"


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
