"""``make faults SEEDS=… MINUTES=…``: the simulation, then real processes, then planted bugs."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.faults.report import Report
from tests.planted.bugs import Verdict, bugs, try_all
from tests.simulation.seeds import Result, report_lines, run_seeds
from tests.simulation.test_ledger_interleavings import in_memory, simulate

PROCESSES = "tests.faults.processes"
LEDGER_SHARE = 20
"""One seed of the ledger for so many of the rest: it has long ones."""


def main() -> int:
    """Run all layers and write the report; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="of the simulation")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=5.0, help="of real processes; 0: none")
    parser.add_argument("--planted", action="store_true", help="also plant every bug")
    parser.add_argument("--out", type=Path, default=Path("fault-report"), help="directory")
    given = parser.parse_args()
    # What the service says of its faults is no news here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report = Report(commit=_commit(), simulation=Result(), ledger=Result())
    report.simulation = run_seeds(given.first, given.seeds)
    print("\n".join(report_lines(report.simulation)), flush=True)
    report.ledger = _ledger(given.first, given.seeds // LEDGER_SHARE)
    report.write(given.out)
    _real(report, given.minutes, given.out)
    report.write(given.out)
    report.planted = _planted() if given.planted else []
    report.finished = True
    report.write(given.out)
    print(f"{'passed' if report.passed else 'FAILED'}: {given.out / 'faults.md'}")
    return 0 if report.passed else 1


def _ledger(first: int, seeds: int) -> Result:
    """Interleavings of gateways, reader and clock on the ledger's reference."""
    result, began = Result(), time.monotonic()
    for seed in range(first, first + seeds):
        result.seeds += 1
        try:
            result.seen += asyncio.run(simulate(seed, in_memory()))
        except Exception as error:
            result.failures.append((seed, f"ledger: {error}"))
    result.seconds = time.monotonic() - began
    return result


def _real(report: Report, minutes: float, out: Path) -> None:
    """The second layer, where it is here and asked for."""
    if not minutes or importlib.util.find_spec(PROCESSES) is None:
        return
    told = out / "processes.md"
    told.unlink(missing_ok=True)
    try:
        importlib.import_module(PROCESSES).run(minutes, told)
    except AssertionError as error:
        report.broken = f"{type(error).__name__}: {error}"
        print(f"FAILED {report.broken}", flush=True)
    finally:
        report.processes = told.read_text() if told.exists() else ""


def _planted() -> list[Verdict]:
    with tempfile.TemporaryDirectory() as directory:
        return list(try_all(bugs(), Path(directory)))


def _commit() -> str:
    """What was run, as git names it; "an unknown version" outside of a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found or "an unknown version"


if __name__ == "__main__":
    sys.exit(main())
