"""What is kept, and what has to go."""

from __future__ import annotations

from rating.kept import Kept


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
