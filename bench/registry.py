"""What there is to measure. An area adds itself by a module here and one line in :data:`AREAS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from bench.pairing import Paired

Said = str | int | float

AREAS = {
    "ingest": "bench.ingest.rows",
    "dedupe": "bench.dedupe.rows",
    "log": "bench.log.rows",
    "readers": "bench.readers.rows",
    "ledger": "bench.ledger.rows",
    "rating": "bench.rating.rows",
    "finance": "bench.finance.rows",
}
"""Area → the module whose ``TITLE`` and ``ROWS`` it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a row is measured with.

    Attributes:
        scratch: an empty directory on the disk that is measured; removed afterwards.
        cache: where what is expensive to build is kept from run to run.
        core: the core of whatever is measured; ``load_core`` is the load generator's.
        quick: a figure in a minute rather than the one that is published.
        profile: the file a profile of what is measured goes to, None for none.
    """

    scratch: Path
    cache: Path
    core: int = 0
    load_core: int = 1
    rounds: int = 9
    quick: bool = False
    profile: Path | None = None
    say: Callable[[str], None] = print

    def size(self, full: int, quick: int) -> int:
        """One of two sizes."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure is to reach: at least ``reach``, or at most where ``at_most``."""

    reach: float
    stretch: float | None = None
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether ``reach`` is met."""
        return value <= self.reach if self.at_most else value >= self.reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one row measured.

    ``paired`` is in ``unit``, the figure is its ratio; without, ``value`` in ``unit`` is.
    ``method`` says batch size, concurrency, fsync and pinning; ``facts`` is what else was seen.
    """

    unit: str
    paired: Paired | None = None
    value: float | None = None
    method: Mapping[str, Said] = field(default_factory=dict)
    facts: Mapping[str, Said] = field(default_factory=dict)

    @property
    def figure(self) -> float:
        """What the goal is about."""
        if self.paired is not None:
            return self.paired.ratio
        assert self.value is not None, "a row measures a pair or a value"
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the results. ``key`` is ``area/name``."""

    key: str
    title: str
    against: str
    goal: Goal | None
    measure: Callable[[Context], Measured]

    @property
    def area(self) -> str:
        """The area it belongs to."""
        return self.key.partition("/")[0]


def rows(wanted: Iterable[str] = ()) -> list[Row]:
    """The rows of these areas or with these keys; all of them when none is named.

    Raises:
        LookupError: there is no such area or row.
    """
    names = list(wanted)
    areas = {name.partition("/")[0] for name in names} or set(AREAS)
    modules = [module for area, module in AREAS.items() if area in areas]  # and no other engines
    every = [row for module in modules for row in import_module(module).ROWS]
    if unknown := set(names) - {row.key for row in every} - set(AREAS):
        raise LookupError(f"no such area or row: {', '.join(sorted(unknown))}")
    return [row for row in every if not names or row.area in names or row.key in names]


def title_of(area: str) -> str:
    """The heading of an area."""
    title: str = import_module(AREAS[area]).TITLE
    return title
