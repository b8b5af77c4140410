"""Runs: files of cells. Their names say which part of a log they add up, and when it came in.

A run never changes. Eight neighbours make a longer one beside them, eight of those one more, so
that the beginning of a log, up to whatever record, is a few long runs and a few short ones.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.ids import NodeId, Seq

NAME = re.compile(
    r"(?P<node>.+)-(?P<first>\d{20})-(?P<last>\d{20})-(?P<since>\d{20})-(?P<until>\d{20})\.parquet"
)
FANOUT = 8


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Run:
    """What ``[first, last]`` of one node's log comes to for one spec.

    Its facts and compensations were received in ``[since, until]`` (µs; both 0 for none).
    """

    node: NodeId
    first: Seq
    last: Seq
    since: int
    until: int
    path: Path

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.name


def run_name(*, node: NodeId, log: tuple[int, int], received: tuple[int, int]) -> str:
    """The name of the run of ``[first, last]`` of ``node``, received within the other bounds."""
    parts = (f"{number:020d}" for number in (*log, *received))
    return f"{node}-{'-'.join(parts)}.parquet"


@dataclass(frozen=True, slots=True)
class Pile:
    """The runs of one spec and node, by their first record, short ones first."""

    runs: dict[Seq, tuple[Run, ...]]

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Pile:
        """Those of ``runs`` that are reached from record 1 without a gap."""
        found: dict[Seq, list[Run]] = defaultdict(list)
        for run in sorted(runs):
            found[run.first].append(run)
        pile = cls({first: tuple(sorted(held)) for first, held in found.items()})
        reached = pile.reached
        held = {
            first: tuple(run for run in runs if run.last <= reached)
            for first, runs in pile.runs.items()
        }
        return cls({first: runs for first, runs in held.items() if runs})

    @property
    def shortest(self) -> list[Run]:
        """The runs that nothing shorter makes up, in log order."""
        found, place = [], Seq(1)
        while place in self.runs:
            found.append(self.runs[place][0])
            place = Seq(found[-1].last + 1)
        return found

    @property
    def reached(self) -> Seq:
        """The last record that is added up, 0 for none."""
        shortest = self.shortest
        return shortest[-1].last if shortest else Seq(0)

    def cover(self, as_of: int) -> list[Run]:
        """The fewest runs from record 1 on of which all was received by ``as_of``."""
        found: list[Run] = []
        place = Seq(1)
        while fitting := [run for run in self.runs.get(place, ()) if run.until <= as_of]:
            found.append(fitting[-1])
            place = Seq(fitting[-1].last + 1)
        return found

    def horizon(self, as_of: int) -> Seq | None:
        """The last record that may have been received by ``as_of``; null where none is known."""
        late = (run.first for run in self.shortest if run.since > as_of)
        return next((Seq(first - 1) for first in late), None)

    def mergeable(self) -> Sequence[Run]:
        """The next neighbours that make a longer run; empty where none do."""
        level = self.shortest
        while len(level) >= FANOUT:
            longer: list[Run] = []
            for place in range(0, len(level) - FANOUT + 1, FANOUT):
                group = level[place : place + FANOUT]
                found = [r for r in self.runs[group[0].first] if r.last == group[-1].last]
                if not found:
                    return group
                longer.append(found[0])
            level = longer
        return ()

    def plus(self, run: Run) -> Pile:
        """With one run more."""
        held = (*self.runs.get(run.first, ()), run)
        return Pile({**self.runs, run.first: tuple(sorted(set(held)))})


def list_runs(directory: Path) -> dict[NodeId, Pile]:
    """The runs of one spec by node. What is none (a ``.tmp`` that a crash left) does not count."""
    found: dict[NodeId, list[Run]] = defaultdict(list)
    for path in directory.glob("*.parquet"):
        if match := NAME.fullmatch(path.name):
            node = NodeId(match["node"])
            found[node].append(
                Run(
                    node=node,
                    first=Seq(int(match["first"])),
                    last=Seq(int(match["last"])),
                    since=int(match["since"]),
                    until=int(match["until"]),
                    path=path,
                )
            )
    return {node: Pile.of(runs) for node, runs in found.items()}
