"""The memory of each process over time, and whether it grew."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

import psutil

from bench.beside import Beside
from bench.soak.parts import parts_of
from bench.traffic.charts import Line, Panel

MIB = 2**20
GROWTH_MAX = 1.2
"""The last third over the middle third, medians, and each process that was killed starts anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Resident memory of one process at one moment."""

    at_s: float
    part: str
    pid: int
    bytes: int


class MemoryWatch(Beside):
    """Samples the service's processes until the end of the block."""

    def __init__(self, supervisor: int, *, every_s: float = 2.0) -> None:
        self.seen: list[Resident] = []
        self._supervisor = supervisor
        self._every_s = every_s
        super().__init__()

    def panel(self, began_s: float) -> Panel:
        """Memory over time, a line for each process and its successors."""
        lines: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for each in self.seen:
            x, y = lines[each.part]
            x.append(each.at_s - began_s)
            y.append(each.bytes / MIB)
        ordered: dict[str, Line] = {part: lines[part] for part in sorted(lines)}
        return Panel(title="Resident memory", unit="MiB", lines=ordered)

    def peak(self, part: str) -> int:
        """The most bytes that were seen of a part."""
        return max(each.bytes for each in self.seen if each.part == part)

    def growth(self) -> dict[str, float]:
        """For each part, its last third over its middle third (medians)."""
        found = {}
        for part in sorted({each.part for each in self.seen}):
            sizes = [each.bytes for each in self.seen if each.part == part]
            third = len(sizes) // 3
            if third:
                found[part] = median(sizes[2 * third :]) / median(sizes[third : 2 * third])
        return found

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            with contextlib.suppress(psutil.Error):
                for part, process in parts_of(self._supervisor).items():
                    with contextlib.suppress(psutil.Error):
                        rss = process.memory_info().rss
                        self.seen.append(
                            Resident(at_s=time.time(), part=part, pid=process.pid, bytes=rss)
                        )
