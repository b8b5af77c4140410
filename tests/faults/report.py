"""What fault runs came to, as Markdown for people and JSON for whoever compares runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tests.planted.bugs import Verdict, table
from tests.simulation.seeds import Result
from tests.simulation.world import CHECKED


@dataclass(slots=True, kw_only=True)
class Report:
    """One run. ``processes`` is the second layer's own fragment, ``broken`` what it raised."""

    commit: str
    simulation: Result
    ledger: Result
    planted: list[Verdict] = field(default_factory=list)
    processes: str = ""
    broken: str = ""
    finished: bool = False
    """It is written after each layer, so that a run that is ended early has told what it saw."""

    @property
    def passed(self) -> bool:
        """Whether no promise was broken, every rare path was reached and every bug caught."""
        simulated = not self.simulation.failures and not self.simulation.never_reached
        caught = all(verdict.caught for verdict in self.planted)
        return simulated and not self.ledger.failures and caught and not self.broken

    def write(self, directory: Path) -> None:
        """``faults.md``, ``faults.json`` and its parts ``simulation.md`` and ``planted.md``."""
        directory.mkdir(parents=True, exist_ok=True)
        simulated = simulation_text(self.simulation, self.ledger)
        verdict = "Passed." if self.passed else "**Failed.**"
        so_far = "" if self.finished else "Not finished; so far: "
        parts = [f"# Fault run of {self.commit}\n\n{so_far}{verdict}\n", simulated]
        (directory / "simulation.md").write_text(simulated)
        if self.planted:
            planted = planted_text(self.planted)
            (directory / "planted.md").write_text(planted)
            parts.append(planted)
        parts.append(self.processes)
        if self.broken:
            parts.append(f"**Broken:** {self.broken}\n")
        (directory / "faults.md").write_text("\n".join(part for part in parts if part))
        (directory / "faults.json").write_text(json.dumps(self._document(), indent=1) + "\n")

    def _document(self) -> dict[str, object]:
        return {
            "commit": self.commit,
            "passed": self.passed,
            "finished": self.finished,
            "simulation": _figures(self.simulation),
            "never_reached": self.simulation.never_reached,
            "ledger": _figures(self.ledger),
            "planted": [
                {"bug": v.bug.name, "what": v.bug.what, "caught_by": v.how} for v in self.planted
            ],
            "processes": self.processes,
            "broken": self.broken,
        }


def _figures(result: Result) -> dict[str, object]:
    return {
        "seeds": result.seeds,
        "seconds": round(result.seconds),
        "seen": dict(sorted(result.seen.items())),
        "failures": result.failures,
    }


def simulation_text(result: Result, ledger: Result) -> str:
    """The simulation's section: seeds, comparisons, rare paths, failures."""
    checks = {k.removeprefix(CHECKED): n for k, n in result.seen.items() if k.startswith(CHECKED)}
    paths = {k: n for k, n in result.seen.items() if not k.startswith(CHECKED)}
    paths |= dict.fromkeys(result.never_reached, 0)
    told = (
        f"{result.seeds:,} seeds in {result.seconds / 60:.1f} minutes, {len(result.failures)} of "
        f"them broke a promise; {ledger.seeds:,} seeds of the ledger's interleavings, "
        f"{len(ledger.failures)} of them did."
    )
    lines = [
        "## Simulation",
        "",
        told,
        "",
        *_counted("what was compared", "times", checks),
        "",
        *_counted("what was come across", "times", paths),
        "",
    ]
    lines += [f"- seed {seed}: {what}" for seed, what in result.failures + ledger.failures]
    return "\n".join(lines)


def _counted(what: str, times: str, counts: dict[str, int]) -> list[str]:
    rows = [f"| {name} | {count or '**never**'} |" for name, count in sorted(counts.items())]
    return [f"| {what} | {times} |", "|---|---:|", *rows]


def planted_text(verdicts: list[Verdict]) -> str:
    """The kill table's section."""
    caught = sum(verdict.caught for verdict in verdicts)
    return f"## Planted bugs\n\n{caught} of {len(verdicts)} were caught.\n\n{table(verdicts)}"
