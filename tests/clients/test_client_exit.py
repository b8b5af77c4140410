"""The end of a process, forks and loops: what was recorded is sent, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tallyman_client import AsyncTallyman, Options, Retry

from tests.clients.flaky_service import Fault, FlakyService, problem, wait_until

CLIENT = Path(__file__).parents[2] / "clients" / "python"
BEGIN = "from tallyman_client import *\noptions = Options(batch_age_s_max=3600)\n"
THREADS = BEGIN + (
    "client = Tallyman({url!r}, source='app', options=options)\n"
    "for n in range(7): client.record(type='t', subject='s', id=f'e{{n}}')\n"
)
TASKS = BEGIN + (
    "import asyncio\n"
    "client = AsyncTallyman({url!r}, source='app', options=options)\n"
    "async def main():\n"
    "    for n in range(7): await client.record(type='t', subject='s', id=f'e{{n}}')\n"
    "asyncio.run(main())\n"
)
FORK = THREADS + (
    "import os\n"
    "child = os.fork()\n"
    "who = 'parent' if child else 'child'\n"
    "client.record(type='t', subject='s', id=who)\n"
    "assert client.stats().pending == (8 if child else 1)\n"
    "if child: assert os.waitpid(child, 0)[1] == 0\n"
)
EVENTS = {f"e{number}" for number in range(7)}


def run(program: str, flaky: FlakyService) -> subprocess.CompletedProcess[str]:
    """Run ``program`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program.format(url=flaky.url)],
        env={"PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", [THREADS, TASKS], ids=["threads", "asyncio"])
@pytest.mark.parametrize(("ending", "code"), [("", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1)])
def test_the_end_of_the_process_sends_the_rest(
    flaky: FlakyService, program: str, ending: str, code: int
) -> None:
    """Not closed, the batch far from due, a service that fails at first: all the same."""
    flaky.faults = [problem(503, "busy"), Fault(cut=True, after=True)]
    done = run(program + ending, flaky)
    assert done.returncode == code, done.stderr
    assert flaky.ids() == EVENTS


@pytest.mark.parametrize("program", [THREADS, TASKS], ids=["threads", "asyncio"])
def test_the_end_is_bounded(flaky: FlakyService, program: str) -> None:
    """A service that never answers holds the process no longer than it is told to."""
    flaky.fault = lambda request: Fault(hang_s=30.0)
    bounded = program.replace("batch_age_s_max=3600", "batch_age_s_max=3600, close_s_max=0.5")
    done = run(bounded, flaky)
    assert done.returncode == 0
    assert "gave up on 7 events" in done.stderr


def test_a_forked_child_sends_only_its_own(flaky: FlakyService) -> None:
    """The parent's events are the parent's; both deliver, nothing is even sent twice."""
    done = run(FORK, flaky)
    assert done.returncode == 0, done.stderr
    assert flaky.ids() == EVENTS | {"parent", "child"}
    assert set(flaky.arrivals.values()) == {1}


def test_events_outlive_the_loop_that_recorded_them(flaky: FlakyService) -> None:
    """A loop that ends in the middle of a request leaves its batch to the next."""
    flaky.fault = lambda request: Fault(hang_s=0.5, after=True)
    client = AsyncTallyman(flaky.url, source="app", options=Options(batch_age_s_max=0.0))

    async def begin() -> None:
        for number in range(7):
            await client.record(type="t", subject="s", id=f"e{number}")
        await asyncio.to_thread(wait_until, lambda: bool(flaky.requests))

    asyncio.run(begin())
    assert client.stats().pending == 7
    flaky.fault = lambda request: None
    asyncio.run(client.close())
    assert flaky.ids() == EVENTS
    stats = client.stats()
    assert (stats.pending, stats.dropped, stats.accepted + stats.duplicates) == (0, 0, 7)


async def test_many_checks_share_the_loop(flaky: FlakyService) -> None:
    """Fifty at once take about as long as one."""
    decision = {"allowed": True, "items": []}
    flaky.respond = lambda request: {"results": [decision]}
    flaky.fault = lambda request: Fault(
        hang_s=0.2, body=b'{"results": [{"allowed": true, "items": []}]}'
    )
    patient = Retry(attempt_s_max=4, total_s_max=4, pause_s_first=0.02, pause_s_max=0.2)
    options = Options(connections_max=50, check=patient)
    async with AsyncTallyman(flaky.url, options=options) as client:
        asked = (client.check("acme", {"tokens": 1}) for _ in range(50))
        async with asyncio.timeout(5):
            assert all(await asyncio.gather(*asked))
