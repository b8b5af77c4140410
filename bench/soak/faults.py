"""kill -9 of one process after the other, and how long until the service is ready again."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import httpx
import psutil

from bench.beside import Beside
from bench.soak.parts import KINDS, parts_of
from bench.traffic.charts import Mark

READY_S_MAX = 300.0
SETTLED_POLLS = 3
"""So many times in a row ready: a gateway that answers may not have seen yet who died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process ended with SIGKILL. ``back_s`` is None when the service never became ready."""

    at_s: float
    part: str
    back_s: float | None


class Killer(Beside):
    """Kills worker, gateway and ledger in turn until the end of the block."""

    def __init__(self, supervisor: int, url: str, *, every_s: float, until_s: float) -> None:
        self.kills: list[Kill] = []
        self._supervisor = supervisor
        self._url = url
        self._every_s = every_s
        self._until_s = until_s
        super().__init__()

    def marks(self) -> list[Mark]:
        """What happened when, for the charts."""
        return [Mark(at_s=kill.at_s, label=f"kill {kill.part}") for kill in self.kills]

    def _run(self) -> None:
        for turn in itertools.count():
            if self._over.wait(self._every_s) or time.time() > self._until_s:
                return
            self._kill(KINDS[turn % len(KINDS)], turn // len(KINDS))

    def _kill(self, kind: str, round_: int) -> None:
        """One of that kind: of two gateways each in its turn."""
        parts = parts_of(self._supervisor)
        names = sorted(name for name in parts if name.startswith(kind))
        if not names:
            return
        name = names[round_ % len(names)]
        at_s = time.time()
        try:
            parts[name].kill()
        except psutil.NoSuchProcess:
            return
        back_s = self._until_ready(at_s, name, parts[name].pid)
        self.kills.append(Kill(at_s=at_s, part=name, back_s=back_s))
        said = "not ready again" if back_s is None else f"ready after {back_s:.1f} s"
        print(f"  killed {name}: {said}", flush=True)

    def _until_ready(self, at_s: float, name: str, pid: int) -> float | None:
        ready = 0
        while time.time() < at_s + READY_S_MAX:
            successor = parts_of(self._supervisor).get(name)
            replaced = successor is not None and successor.pid != pid
            ready = ready + 1 if replaced and self._is_ready() else 0
            if ready == SETTLED_POLLS:
                return time.time() - at_s
            time.sleep(0.2)
        return None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
