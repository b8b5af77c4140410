"""Real faults in real processes, a few of each; ``make faults`` tries them by the hundred."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import power, tracer
from tests.faults.alone import Place, place
from tests.faults.crash_points import (
    BODIES,
    GATEWAY_TARGETS,
    SEALER_TARGETS,
    WRITE,
    Fault,
    gateway_fault,
    sealer_fault,
)
from tests.faults.cuts import cut_power
from tests.faults.kills import kill_gateways
from tests.faults.power import powered
from storage.log.layout import hot_name

HOT = hot_name(1)


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    """One place for all of it."""
    with place() as made:
        yield made


@pytest.fixture
def strace() -> None:
    """Skip where nothing can be traced."""
    if reason := tracer.why_not():
        pytest.skip(reason)


@pytest.mark.slow
async def test_twelve_kills_of_a_gateway_and_its_sealer() -> None:
    """Everything acknowledged is in the log once, as sent; nothing is there that was not sent."""
    seen = await kill_gateways(1, more=lambda seen: seen.kills < 12)
    assert seen.events > 100
    assert seen.broken, "no request was ever hit by a kill"


@pytest.mark.slow
async def test_six_power_cuts() -> None:
    """A disk that lost its cache holds everything acknowledged before."""
    if reason := power.why_not():
        pytest.skip(reason)
    seen = await cut_power(1, more=lambda seen: seen.cuts < 6)
    assert seen.acknowledged > 100


def test_what_was_not_synced_is_gone_after_a_power_cut() -> None:
    """The machinery itself: a cut finds what a kill cannot."""
    if reason := power.why_not():
        pytest.skip(reason)
    with powered() as disk:
        for name, synced in (("kept", True), ("lost", False)):
            with (disk.disk / name).open("wb") as file:
                file.write(b"x")
        import os

        descriptor = os.open(disk.disk / "kept", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        with disk.after(disk.cut()) as found:
            assert (found / "kept").read_bytes() == b"x"
            assert not (found / "lost").exists() or not (found / "lost").read_bytes()


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(call=call, path=HOT, effect="signal=KILL", nth=nth)
        for call, nth in ((WRITE, 1), (WRITE, 4), ("fdatasync", 2), ("fdatasync", 5))
    ],
    ids=str,
)
async def test_a_kill_at_a_system_call_loses_nothing(where: Place, fault: Fault) -> None:
    """Before the frame, behind it and not yet synced: the repetition is told the truth."""
    outcome = await gateway_fault(where, fault)
    assert (outcome.hit, outcome.restarts) == (True, 1)
