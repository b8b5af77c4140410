"""The supervisor with small children: restarts, order of stopping, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import REPOSITORY, children_of, is_alive, wait_for

# Children append a line when they start and when they stop; "stubborn" ignores SIGTERM.
CHILD = """
import os, signal, sys, time
name, journal = sys.argv[1:3]
def write(what):
    with open(journal, "a") as file:
        file.write(f"{what} {name}\\n")
def stop(*_):
    write("stop")
    if name != "stubborn":
        time.sleep(0.1)
        os._exit(0)
signal.signal(signal.SIGTERM, stop)
write("start")
if name == "misconfigured":
    sys.exit(78)
while True:
    time.sleep(10)
"""

SUPERVISOR = """
import sys
from api.supervisor import ChildSpec, Supervisor
script, journal, stop_s_max = sys.argv[1], sys.argv[2], float(sys.argv[3])
specs = [
    ChildSpec(name=name, argv=(sys.executable, script, name, journal), stage=stage, stop_share=0.5)
    for name, stage in (part.split(":") for part in sys.argv[4:])
]
supervisor = Supervisor(specs, environment={}, stop_s_max=stop_s_max)
sys.exit(supervisor.run(on_stop=lambda: open(journal, "a").write("stopping\\n")))
"""


class Run:
    """A running supervisor and what its children wrote."""

    def __init__(self, directory: Path, *children: str, stop_s_max: float = 8) -> None:
        self.journal_path = directory / "journal"
        self.journal_path.touch()
        script = directory / "child.py"
        script.write_text(textwrap.dedent(CHILD))
        arguments = [str(script), str(self.journal_path), str(stop_s_max), *children]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, *arguments],
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def journal(self) -> list[str]:
        """What happened, in order."""
        return self.journal_path.read_text().splitlines()

    def wait_lines(self, *lines: str) -> None:
        """Wait until exactly these things happened, in any order."""
        wait_for(
            lambda: sorted(self.journal()) == sorted(lines),
            what=f"{lines}",
            within_s=15,
            explain=lambda: str(self.journal()),
        )

    def pids(self) -> list[int]:
        """The children."""
        return [pid for pid, _ in children_of(self.process.pid)]


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Supervisors to be ended with the test."""
    started: list[Run] = []
    yield started
    for run in started:
        with contextlib.suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait()


def test_stages_stop_in_order(tmp_path: Path, runs: list[Run]) -> None:
    """Each stage has ended before the next is told to; the exit code says all was orderly."""
    run = Run(tmp_path, "last:3", "first:1", "second:2")
    runs.append(run)
    run.wait_lines("start last", "start first", "start second")
    run.process.send_signal(signal.SIGTERM)

    assert run.process.wait(10) == 0
    assert run.journal()[3:] == ["stopping", "stop first", "stop second", "stop last"]


def test_a_stop_is_bounded(tmp_path: Path, runs: list[Run]) -> None:
    """A child that does not end is killed when its share of the time is over."""
    run = Run(tmp_path, "stubborn:1", "other:2", stop_s_max=1)
    runs.append(run)
    run.wait_lines("start stubborn", "start other")
    children = run.pids()
    run.process.send_signal(signal.SIGINT)

    assert run.process.wait(10) == 1
    assert run.journal()[-1] == "stop other"
    assert not any(map(is_alive, children))


def test_a_child_that_dies_is_started_again(tmp_path: Path, runs: list[Run]) -> None:
    """Only that one; and again when it dies again."""
    run = Run(tmp_path, "a:1", "b:1")
    runs.append(run)
    run.wait_lines("start a", "start b")
    survivor = None
    for deaths in (1, 2):
        victim = next(pid for pid, command in children_of(run.process.pid) if " a " in command)
        os.kill(victim, signal.SIGKILL)
        run.wait_lines("start b", *["start a"] * (deaths + 1))
        others = [pid for pid, command in children_of(run.process.pid) if " b " in command]
        assert survivor in {None, *others}
        survivor = others[0]


def test_a_child_may_say_that_no_restart_helps(tmp_path: Path, runs: list[Run]) -> None:
    """Exit code 78 ends the whole service with 78."""
    run = Run(tmp_path, "misconfigured:1", "other:2")
    runs.append(run)

    assert run.process.wait(10) == 78
    assert run.journal().count("start misconfigured") == 1


def test_no_child_outlives_a_kill(tmp_path: Path, runs: list[Run]) -> None:
    """SIGKILL leaves the supervisor no time: the kernel ends the children."""
    run = Run(tmp_path, "a:1", "stubborn:2")
    runs.append(run)
    run.wait_lines("start a", "start stubborn")
    children = run.pids()
    run.process.kill()
    run.process.wait()

    assert len(children) == 2
    wait_for(lambda: not any(map(is_alive, children)), what="gone", within_s=5)
