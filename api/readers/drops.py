"""How often a store was dropped: who read it meanwhile read less than there was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Drops:
    """Counts the drops of one store. One thread drops at a time, any number ask."""

    def __init__(self) -> None:
        self._moves = 0

    @property
    def generation(self) -> int | None:
        """Another one after every drop, greater than all before; null while one is under way."""
        moves = self._moves
        return None if moves % 2 else moves

    @contextmanager
    def one(self) -> Iterator[None]:
        """Drop, or try to, inside."""
        self._moves += 1
        try:
            yield
        finally:
            self._moves += 1
