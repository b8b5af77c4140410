"""What a run saw, second by second: small, and the same whichever process or machine saw it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

GROWTH = 1.04
"""Latencies are counted in buckets, each so much wider than the last: within 4 %."""

_LOG = math.log(GROWTH)
_FLOOR_MS = 0.01


class Tally(StrEnum):
    """What is counted a second, by name."""

    FAILED = "failed"
    """Requests of a kind that were not answered as they should."""
    EVENTS = "events"
    """Events: acknowledged, answered as duplicates, never answered."""
    DECISIONS = "decisions"
    """Allowed, or the reason of a denial."""
    CALLS = "calls"
    """Units that were allowed to be consumed."""


@dataclass
class Samples:
    """Counts by second. ``latencies`` holds only requests that were answered well.

    Keys are (second since 1970, kind, bucket) and (second since 1970, tally, name).
    """

    latencies: Counter[tuple[int, str, int]] = field(default_factory=Counter)
    counts: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def answered(self, second: int, kind: str, ms: float) -> None:
        """A request of ``kind`` was answered well."""
        self.latencies[second, kind, bucket_of(ms)] += 1

    def count(self, second: int, tally: Tally, name: str, amount: int = 1) -> None:
        """Add to a tally."""
        self.counts[second, tally, name] += amount

    def add(self, other: Samples) -> None:
        """Add what another process saw."""
        self.latencies.update(other.latencies)
        self.counts.update(other.counts)

    def clear(self) -> None:
        """Forget everything: it was handed on."""
        self.latencies.clear()
        self.counts.clear()

    def total(self, tally: Tally, name: str) -> int:
        """A tally over the whole run."""
        return sum(n for (_, t, each), n in self.counts.items() if (t, each) == (tally, name))

    def names(self, tally: Tally) -> list[str]:
        """Everything a tally has."""
        return sorted({name for _, each, name in self.counts if each == tally})

    def kinds(self) -> list[str]:
        """The kinds of requests that were made, failed ones too."""
        return sorted({kind for _, kind, _ in self.latencies} | set(self.names(Tally.FAILED)))

    def histogram(self, kind: str) -> Counter[int]:
        """How often each bucket was met by requests of a kind, over the whole run."""
        found: Counter[int] = Counter()
        for (_, each, bucket), n in self.latencies.items():
            if each == kind:
                found[bucket] += n
        return found

    def span(self) -> tuple[int, int]:
        """The first and the last second in which anything was seen; (0, 0) for nothing."""
        seconds = [key[0] for key in (*self.latencies, *self.counts)]
        return (min(seconds), max(seconds)) if seconds else (0, 0)

    def to_json(self) -> dict[str, Any]:
        """As plain lists, for another process or a file."""
        return {
            "latencies": [[*key, n] for key, n in self.latencies.items()],
            "counts": [[*key, n] for key, n in self.counts.items()],
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Iterable[Any]]) -> Samples:
        """What :meth:`to_json` wrote."""
        samples = cls()
        for second, kind, bucket, n in plain["latencies"]:
            samples.latencies[second, kind, bucket] += n
        for second, tally, name, n in plain["counts"]:
            samples.counts[second, tally, name] += n
        return samples


def bucket_of(ms: float) -> int:
    """The bucket a latency is counted in."""
    return max(0, math.ceil(math.log(max(ms, _FLOOR_MS) / _FLOOR_MS) / _LOG))


def percentile_ms(histogram: Mapping[int, int], percent: float) -> float:
    """A percentile, as the upper bound of its bucket: never less than it was. NaN of nothing."""
    wanted = math.ceil(sum(histogram.values()) * percent / 100)
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= wanted:
            return _FLOOR_MS * GROWTH**bucket
    return math.nan
