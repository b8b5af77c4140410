"""What is kept, and what has to go."""

from __future__ import annotations

from catalog.periods import PeriodSpec
from rating.kept import Kept
from rating.planned import QUESTION_LINES, Planning
from tests.unit.rating.builders import LATER, catalog_of


def test_what_was_used_longest_ago_goes_first():
    """Looking it up is using it; room is counted by size."""
    kept: Kept[str, int] = Kept(10)
    kept.put("a", 1, size=4)
    kept.put("b", 2, size=4)
    assert kept.get("a") == 1
    kept.put("c", 3, size=4)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]


def test_a_value_in_place_of_another_takes_only_its_own_room():
    """However often it is put there."""
    kept: Kept[str, int] = Kept(10)
    kept.put("a", 0, size=3)
    for n in range(20):
        kept.put("b", n, size=7)
    assert (kept.get("a"), kept.get("b")) == (0, 19)
    kept.clear()
    kept.put("c", 1, size=10)
    assert (kept.get("a"), kept.get("c")) == (None, 1)


def test_what_is_too_large_is_not_kept_unless_one_has_to_be():
    """The pages of a long answer are of one answer."""
    small: Kept[str, int] = Kept(10)
    small.put("a", 1, size=11)
    assert small.get("a") is None
    one: Kept[str, int] = Kept(10, at_least=1)
    one.put("a", 1, size=11)
    assert one.get("a") == 1
    one.put("b", 2, size=1)
    assert (one.get("a"), one.get("b")) == (None, 2)


def test_questions_of_few_lines_are_counted_for_what_they_take_besides():
    """Plans of one customer after another: those asked for last are kept, not one for each line."""
    names = [f"c{n}" for n in range(5)]
    customers = ", ".join(f"{name}: {{name: C, subjects: [{name}]}}" for name in names)
    terms = "pricebook: b, start: 2026-01-01"
    contracts = ", ".join(f"k{name}: {{customer: {name}, {terms}}}" for name in names)
    catalog = catalog_of(f"""
products: {{fee: {{name: Fee}}}}
pricebooks:
  b: {{currency: USD, invoicing: {{timing: arrears, every_months: 1}},
      prices: [{{product: fee, charge: {{model: flat, amount: '5'}}}}]}}
customers: {{{customers}}}
contracts: {{{contracts}}}
""")
    planning, month = Planning(lines_max=2 * QUESTION_LINES + 2), PeriodSpec.parse("2026-02")

    def asked(name: str) -> object:
        return planning.of(catalog, month, LATER, customers=[name]).plans

    first = [asked(name) for name in names]
    again = [asked(name) for name in reversed(names)]
    kept = [one is other for one, other in zip(first, reversed(again), strict=True)]
    assert kept == [False, False, False, True, True]
