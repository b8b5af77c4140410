"""Pairing two sides in one run: A/B/A/B, medians, and the ratio with its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

BOOTSTRAPS = 2_000
WARMUPS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """What both sides measured, round by round, in one unit."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over theirs, round by round: what the machine did to both cancels out."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Where that median lies with 95 % (bootstrap over rounds, seeded)."""
        ratios = np.array(self.ratios)
        rng = np.random.default_rng(7)
        drawn = rng.choice(ratios, (BOOTSTRAPS, ratios.size))
        low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
        return float(low), float(high)


Side = Callable[[int], float]
"""Measures one round, told its number (warm-ups are negative); raises BenchFailed if wrong."""


def interleave(
    ours: Side, theirs: Side, *, rounds: int, prepare: Callable[[int], object] | None = None
) -> Paired:
    """Measure both sides round by round, who is first alternating; warm-ups are dropped.

    ``prepare`` is called before each round, outside of what is timed.
    """
    measured: tuple[list[float], list[float]] = ([], [])
    for number in range(-WARMUPS, rounds):
        if prepare is not None:
            prepare(number)
        sides = [(ours, measured[0]), (theirs, measured[1])]
        for side, values in sides if number % 2 == 0 else reversed(sides):
            value = side(number)
            if number >= 0:
                values.append(value)
    return Paired(ours=tuple(measured[0]), theirs=tuple(measured[1]))


def middle(values: Sequence[float]) -> float:
    """The median."""
    return median(values)
