"""When two rows of a matrix tie: usage that both match, neither being the more specific."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from catalog.charges import MatrixRow

Named = tuple[tuple[str, str], ...]

TIES_MAX = 20


def ties(rows: Sequence[MatrixRow]) -> list[tuple[int, int]]:
    """Pairs of row indexes that tie, the later row second; at most a few of them.

    Rows tie where some usage matches both, they name equally many keys (``*`` names none), and
    no row that names more keys matches that same usage.
    """
    shapes: defaultdict[tuple[str, ...], dict[Named, int]] = defaultdict(dict)
    found: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        named = row.named
        same = shapes[tuple(key for key, _ in named)]
        if named in same:
            found.append((same[named], index))
        else:
            same[named] = index
    for pair in _crossing(shapes):
        found.append(pair)
        if len(found) >= TIES_MAX:
            break
    return found[:TIES_MAX]


def _crossing(
    shapes: dict[tuple[str, ...], dict[Named, int]],
) -> Iterator[tuple[int, int]]:
    """Ties between rows that name different keys, equally many."""
    for left, right in combinations(sorted(shapes), 2):
        if len(left) != len(right):
            continue
        union = set(left) | set(right)
        finer = [keys for keys in shapes if len(keys) > len(left) and union.issuperset(keys)]
        for first, second, merged in _compatible(shapes[left], shapes[right]):
            if not any(tuple((k, merged[k]) for k in keys) in shapes[keys] for keys in finer):
                yield min(first, second), max(first, second)


def _compatible(
    left: dict[Named, int], right: dict[Named, int]
) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Rows of two shapes that agree on the keys both name, with what they name together."""
    for named, first in left.items():
        mine = dict(named)
        for other, second in right.items():
            if all(mine.get(key, value) == value for key, value in other):
                yield first, second, mine | dict(other)
