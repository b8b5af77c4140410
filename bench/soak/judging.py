"""What a soak came to: the load's verdict, and growth, recovery and the recount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench.soak.faults import Kill, Killer
from bench.soak.limits import LIMITS
from bench.soak.memory import GROWTH_MAX, MIB, MemoryWatch
from bench.soak.pace import Reached
from bench.traffic.page import Report
from bench.traffic.samples import Samples
from bench.traffic.verdict import Counted, judge, read_limits

LEDGER = "valkey"
LEDGER_BYTES, DECISION_BYTES = 16 * MIB, 512
"""What an empty ledger may take, and what a decision may add until its key is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """The report, and the facts it shows, to add to."""

    report: Report
    facts: dict[str, str]


def soak_report(
    run: dict[str, Any],
    memory: MemoryWatch,
    killer: Killer,
    verified: dict[str, Any],
    most: Reached,
) -> Soaked:
    """Judge a soak and gather what its report shows."""
    samples = Samples.of_json(run["samples"])
    counted = [Counted(**each) for each in run["counted"]]
    decisions = sum(each["requests"] for each in run["outcomes"] if each["kind"] == "consume")
    besides = [*run["besides"], *grown(memory, decisions), *_gone(killer.kills)]
    if not verified.get("ok"):
        besides.append(f"verify: {verified}")
    verdict = replace(judge(samples, read_limits(LIMITS), counted), besides=besides)
    facts = {**run["facts"], **_facts(run, memory, killer, most), "verify": _said(verified)}
    report = Report(
        title=f"Tallyman soaked for {run['seconds'] / 60:.0f} minutes",
        samples=samples,
        verdict=verdict,
        facts=facts,
        marks=killer.marks(),
        panels=[memory.panel(samples.span()[0])],
    )
    return Soaked(report=report, facts=facts)


def _facts(
    run: dict[str, Any], memory: MemoryWatch, killer: Killer, most: Reached
) -> dict[str, str]:
    events = run["counted"][0]["acknowledged"]
    parts = sorted({each.part for each in memory.seen})
    sizes = {p: [each.bytes / MIB for each in memory.seen if each.part == p] for p in parts}
    growth = memory.growth()
    facts = {
        "maximum, or as given": f"pace {most.pace:.2f}: {most.requests_per_s:,.0f} requests/s with "
        f"{most.events_per_s:,.0f} events/s, readers level",
        "soaked at": f"pace {run['pace']:.2f}: {events / run['seconds']:,.0f} events/s",
        "readers level after": f"{run['settled_s']:.1f} s",
    }
    for part in parts:
        facts[f"memory of {part}"] = (
            f"median {median(sizes[part]):,.0f} MiB, peak {max(sizes[part]):,.0f} MiB, "
            f"last third over middle third {growth.get(part, 1):.2f}"
        )
    for kind in sorted({kill.part for kill in killer.kills}):
        back = [kill.back_s for kill in killer.kills if kill.part == kind]
        said = ", ".join("never" if each is None else f"{each:.1f} s" for each in back)
        facts[f"ready again after kill -9 of {kind}"] = said
    return facts


def grown(memory: MemoryWatch, decisions: int) -> list[str]:
    """Whose memory is not flat. The ledger remembers every decision for a day, in so many bytes."""
    kept = LEDGER_BYTES + decisions * DECISION_BYTES
    return [
        f"memory of {part} grew: last third {ratio:.2f} times the middle third"
        for part, ratio in memory.growth().items()
        if ratio > GROWTH_MAX and not (part == LEDGER and memory.peak(part) <= kept)
    ]


def _gone(kills: Sequence[Kill]) -> list[str]:
    if not kills:
        return ["nothing was killed"]
    return [f"not ready again after the kill of {kill.part}" for kill in kills if not kill.back_s]


def _said(verified: dict[str, Any]) -> str:
    return "no difference" if verified.get("ok") else str(verified)[:1_000]
