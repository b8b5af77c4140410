"""How fast the machine can go with this traffic: paces are tried until one is not kept up with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

KEPT_UP = 0.9
TRIES_MAX = 8

Try = Callable[[float], dict[str, Any]]
"""Runs the load at a pace and answers its ``run.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What one pace came to. ``share`` is what was done of what users wanted, readers and all."""

    pace: float
    share: float
    events_per_s: float
    requests_per_s: float


def reached(run: dict[str, Any]) -> Reached:
    """What a run came to: its requests, slowed by the time readers needed afterwards."""
    seconds = run["seconds"]
    requests = sum(each["requests"] - each["failed"] for each in run["outcomes"])
    slowed = seconds / (seconds + run["settled_s"])
    return Reached(
        pace=run["pace"],
        share=min(1.0, requests / seconds * slowed / run["offered_per_s"]),
        events_per_s=run["counted"][0]["acknowledged"] / seconds * slowed,
        requests_per_s=requests / seconds * slowed,
    )


def pace_at_most(run_at: Try, *, begin: float = 1.0) -> Reached:
    """Double the pace until it is not kept up with; what was reached then is the maximum.

    ``pace`` of the answer is the pace the machine does keep: the one tried × its share.
    """
    pace = begin
    for _ in range(TRIES_MAX):
        found = reached(run_at(pace))
        print(
            f"  pace {pace:g}: {found.share:.0%} of it, {found.requests_per_s:,.0f} requests/s, "
            f"{found.events_per_s:,.0f} events/s",
            flush=True,
        )
        if found.share < KEPT_UP:
            break
        pace *= 2
    return replace(found, pace=found.pace * found.share)
