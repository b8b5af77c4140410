"""Calls of one turn are answered together, and nobody waits long for a group that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from api.hot.turns import GATHERED_S_MAX, TURN_MAX, UNDER_WAY_MAX, Turns


class Call:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.failed = error


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.groups: list[Sequence[tuple[Any, int]]] = []
        self.go = asyncio.Event()

    async def __call__(self, group: Sequence[tuple[Any, int]]) -> None:
        self.groups.append(group)
        await self.go.wait()

    @property
    def asked(self) -> list[list[int]]:
        return [[number for _, number in group] for group in self.groups]


def joined(turns: Turns[int], *numbers: int) -> list[Call]:
    calls = [Call() for _ in numbers]
    for call, number in zip(calls, numbers, strict=True):
        turns.join(call, number)  # type: ignore[arg-type]
    return calls


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_calls_of_a_turn_are_one_group_and_a_large_turn_is_several() -> None:
    """In the order they came."""
    slow = Slow()
    turns = Turns(slow)
    joined(turns, 1, 2)
    await turn()
    assert slow.asked == [[1, 2]]
    joined(turns, *range(TURN_MAX + 1))
    await turn()
    assert list(map(len, slow.asked)) == [2, TURN_MAX, 1]
    slow.go.set()


async def test_while_two_are_under_way_the_next_gathers_but_not_for_long() -> None:
    """What comes meanwhile is one group, asked when one is over or 2 ms have passed."""
    slow = Slow()
    turns = Turns(slow)
    for number in range(UNDER_WAY_MAX):
        joined(turns, number)
        await turn()
    joined(turns, 10)
    await turn()
    joined(turns, 11)
    await turn()
    assert slow.asked == [[0], [1]]
    await asyncio.sleep(10 * GATHERED_S_MAX)
    assert slow.asked[2] == [10, 11]
    joined(turns, 12)
    slow.go.set()
    await turn()
    await turn()
    assert slow.asked[3] == [12], "as soon as one is over"


async def test_what_goes_wrong_is_told_to_the_whole_group_alone() -> None:
    """An error is the group's; the next one is asked as ever."""

    async def refuse(group: Sequence[tuple[Any, int]]) -> None:
        if any(number < 0 for _, number in group):
            raise RuntimeError("no")

    turns = Turns(refuse)
    wrong = joined(turns, 1, -1)
    await turn()
    right = joined(turns, 2)
    await turn()
    assert all(isinstance(call.failed, RuntimeError) for call in wrong)
    assert right[0].failed is None
