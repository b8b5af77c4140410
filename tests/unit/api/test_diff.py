"""Changes are said field by field, and lists are compared by what names their elements."""

from __future__ import annotations

from api.cli.diff import field_changes


def lines(before: dict[str, object] | None, after: dict[str, object] | None) -> list[str]:
    """The changes as short texts."""
    changes = field_changes(before, after)
    return [f"{change.path}: {change.before} -> {change.after}" for change in changes]


def test_only_what_differs_is_named() -> None:
    """Unchanged fields are silent; what came or went says so with None."""
    before = {"name": "A", "charge": {"model": "flat", "amount": "1"}, "gone": True}
    after = {"name": "A", "charge": {"model": "flat", "amount": "2"}, "new": ["x"]}
    assert lines(before, after) == [
        "charge.amount: 1 -> 2",
        "gone: true -> None",
        "new[x]: None -> x",
    ]
    assert lines(before, before) == []


def test_a_price_added_in_front_moves_nothing() -> None:
    """Elements with a name of their own are compared by it, not by their place."""
    before = {"prices": [{"product": "a", "unit": "1"}, {"product": "b", "unit": "2"}]}
    after = {"prices": [{"product": "c", "unit": "9"}, *before["prices"]]}
    assert lines(before, after) == [
        "prices[c].product: None -> c",
        "prices[c].unit: None -> 9",
    ]


def test_tiers_are_named_by_their_bounds() -> None:
    """The open last tier has none and is called last."""
    before = {"tiers": [{"up_to": "10", "unit": "2"}, {"unit": "1"}]}
    after = {"tiers": [{"up_to": "10", "unit": "2"}, {"unit": "0.5"}]}
    assert lines(before, after) == ["tiers[last].unit: 1 -> 0.5"]


def test_elements_without_a_name_are_compared_by_place() -> None:
    """Two prices of one product share a key that cannot tell them apart."""
    twice = [{"product": "a", "unit": "1"}, {"product": "a", "unit": "2"}]
    assert lines({"prices": twice}, {"prices": twice[:1]}) == [
        "prices[1].product: a -> None",
        "prices[1].unit: 2 -> None",
    ]


def test_creation_and_removal_name_every_field() -> None:
    """None stands for an object that is not there; empty containers are values."""
    assert lines(None, {"a": [], "b": {}}) == ["a: None -> []", "b: None -> {}"]
    assert lines({"a": None}, None) == ["a: null -> None"]
