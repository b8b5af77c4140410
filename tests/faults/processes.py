"""Layer 2 of ``make faults``: faults in real processes, at length, and a report of them.

python -m tests.faults.processes MINUTES OUT.md
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import power, tracer
from tests.faults.alone import Place, place
from tests.faults.band import VICTIMS, BandKills, kill_anything
from tests.faults.crash_points import Points, enumerate_points
from tests.faults.cuts import Cuts, cut_power
from tests.faults.kills import Kills, kill_gateways

SEED = 20_260_131
EFFECTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
"""A full disk and a broken one answer any call with these."""


class NeverReached(AssertionError):
    """A campaign that did not meet what it is for proves nothing."""


@dataclass(frozen=True, slots=True)
class Until:
    """A moment to stop at."""

    deadline_s: float

    def __call__(self, _seen: object = None) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.deadline_s

    def share(self, part: float) -> Until:
        """When so much of the time that is left is over."""
        now_s = time.monotonic()
        return Until(now_s + max(0.0, self.deadline_s - now_s) * part)


def run(minutes: float, out: Path, *, seed: int = SEED) -> str:
    """Run every campaign for its share of ``minutes``; writes and answers a Markdown fragment.

    A campaign that fails is in the fragment too, and keeps no other from its turn.

    Raises:
        AssertionError: something was lost, doubled, invented or oversold, or never answered; or a
            rare path was never reached although there was time for it (:class:`NeverReached`).
    """
    parts, failed = [f"## Real processes\n\nSeed {seed}, {minutes:g} minutes.\n"], []
    with place() as where:
        for campaign, share in SHARES.items():
            until = Until(time.monotonic() + share * minutes * 60)
            try:
                parts.append(campaign(where, until, seed))
            except Exception as error:
                failed.append(f"{campaign.__name__.strip('_')}: {type(error).__name__}: {error}")
                parts.append(f"**FAILED** {failed[-1]}\n\n{traceback.format_exc(limit=-4)}\n")
            print(parts[-1], flush=True)
            out.write_text("\n".join(parts))
    if failed:
        raise AssertionError("; ".join(failed))
    return "\n".join(parts)


def _kills(where: Place, until: Until, seed: int) -> str:
    seen = asyncio.run(kill_gateways(where, seed, more=until))
    if seen.kills > 100 and not (seen.answers_lost and seen.while_opening and seen.segments):
        raise NeverReached(str(seen))
    return kills_text(seen)


def kills_text(seen: Kills) -> str:
    """What a campaign of kills saw, in words."""
    down = statistics.quantiles(seen.down_s or [0, 0], n=100)
    return (
        f"**{seen.kills} kills of a gateway** under load, {seen.sealer_kills} of what seals beside"
        f" it, {seen.rounds} rounds: {seen.events} events acknowledged and in the log exactly"
        f" once. {seen.broken} requests broke off; {seen.answers_lost} bodies were durable"
        f" although no answer came; {seen.while_opening} kills met a log being opened;"
        f" {seen.torn} left a torn tail; {seen.segments} segments were sealed. From a start to"
        f" the next acknowledgement: median {down[49]:.2f} s, p99 {down[98]:.2f} s.\n"
    )


def _band(where: Place, until: Until, seed: int) -> str:
    seen = asyncio.run(kill_anything(where, seed, more=until))
    if seen.kills.total() > 100 and not (seen.retries and len(seen.kills) == len(set(VICTIMS))):
        raise NeverReached(str(seen))
    return band_text(seen)


def band_text(seen: BandKills) -> str:
    """What kills in the whole service saw, in words."""
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(seen.kills.items()))
    return (
        f"**{seen.kills.total()} kills in the whole service** ({kinds}), {seen.rounds} rounds:"
        f" {seen.events} events and {seen.allowed} allowed units of hard limits; every balance,"
        f" total and `verify` agreed after each round. {seen.exhausted} allowances were used"
        f" to the last unit and not beyond, {seen.retries} requests were repeated.\n"
    )


def _cuts(where: Place, until: Until, seed: int) -> str:
    if reason := power.why_not():
        return f"**Power cuts**: skipped ({reason}).\n"
    seen = asyncio.run(cut_power(where, seed, more=until))
    if seen.cuts > 150 and not (seen.torn and seen.beyond):
        raise NeverReached(str(seen))
    return cuts_text(seen)


def cuts_text(seen: Cuts) -> str:
    """What a campaign of power cuts saw, in words."""
    return (
        f"**{seen.cuts} power cuts** under load (half of them on ext4 with `data=writeback`),"
        f" {seen.rounds} rounds: {seen.acknowledged} acknowledged events were looked for after"
        f" them and found, as sent, once. {seen.torn} cuts left a torn tail; {seen.beyond} events"
        f" were on disk unacknowledged; {seen.started} times a gateway was started on what was"
        " left, and knew every one of them.\n"
    )


def _points(where: Place, until: Until, _seed: int) -> str:
    if reason := tracer.why_not():
        return f"**Faults at system calls**: skipped ({reason}).\n"
    lines = []
    for left, effect in zip(range(len(EFFECTS), 0, -1), EFFECTS, strict=True):
        share = until.share(1 / left)  # else the first would take all the time there is
        seen = asyncio.run(enumerate_points(where, effect, nth_max=8, more=share))
        lines.append(points_text(effect, seen))
    return "\n".join(lines)


def points_text(effect: str, seen: Points) -> str:
    """What an enumeration saw, in words."""
    calls = ", ".join(f"{count} {call}" for call, count in seen.by_call.most_common())
    return (
        f"**`{effect}` at {seen.hit} system calls** of the log and of sealing ({calls}):"
        f" {seen.restarts} ended the process, {seen.answers_lost} answers were lost, no event"
        " was lost or doubled.\n"
    )


SHARES: dict[Callable[[Place, Until, int], str], float] = {
    _kills: 0.35,
    _band: 0.25,
    _cuts: 0.2,
    _points: 0.2,
}
"""The campaigns, and which part of the time each gets."""


if __name__ == "__main__":
    run(float(sys.argv[1]), Path(sys.argv[2]))
