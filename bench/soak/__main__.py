"""``python -m bench.soak --minutes 20``: find the maximum, soak at 70 % of it, judge, chart."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bench.gate import BenchFailed
from bench.machine import Neighbours
from bench.soak.faults import Killer
from bench.soak.judging import soak_report
from bench.soak.limits import LIMITS
from bench.soak.memory import MemoryWatch
from bench.soak.pace import Reached, pace_at_most, reached
from bench.traffic.__main__ import Started, locust_command, locust_environment, own_service
from bench.traffic.page import DATA, write_report

SHARE = 0.7
CALM_S = 30
"""No kill in the last so many seconds of a run."""

VERIFY_S_MAX = 900

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Locust against the service, a process for each run."""

    service: Started
    users: int
    batch: int

    def run(self, report: Path, *, pace: float, seconds: int, prepare: bool) -> dict[str, Any]:
        """Load it for so long and answer the run's data.

        Raises:
            BenchFailed: locust ended without a report.
        """
        argv = locust_command(
            self.service.url, "-u", str(self.users), "-r", str(self.users), "-t", f"{seconds}s",
            "--pace", str(pace), "--batch-events", str(self.batch), "--limits", str(LIMITS),
            "--report", str(report), "--only-summary", *([] if prepare else ["--no-prepare"]),
        )  # fmt: skip
        (report / DATA).unlink(missing_ok=True)
        environment = locust_environment(self.service.key)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if not (report / DATA).exists():
            raise BenchFailed(f"locust ended with {done.returncode}:\n{done.stderr[-3_000:]}")
        found: dict[str, Any] = json.loads((report / DATA).read_text())
        return found


@app.command()
def soak(
    *,
    minutes: Annotated[float, typer.Option(help="How long at 70 %.")] = 20,
    report: Annotated[Path, typer.Option(help="A directory.")] = Path("soak-report"),
    gateways: Annotated[int, typer.Option(help="Gateway processes.")] = 2,
    users: Annotated[int, typer.Option(help="Locust's users.")] = 60,
    batch: Annotated[int, typer.Option(help="Events in a batch, about.")] = 200,
    every_s: Annotated[float, typer.Option(help="From one kill to the next.")] = 45,
    calibrate_s: Annotated[int, typer.Option(help="Each try for the maximum.")] = 20,
    pace: Annotated[float, typer.Option(help="The maximum, if it is known; 0: measure.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Where data goes if it fails.")] = None,
) -> None:
    """Soak; ends with 1 if anything was lost, grew, differed or did not come back."""
    neighbours = Neighbours()
    with own_service("--gateways", str(gateways)) as service:
        load = Load(service=service, users=users, batch=batch)
        most = _maximum(load, calibrate_s) if not pace else _given(load, pace, calibrate_s)
        seconds = round(minutes * 60)
        print(f"soak: {seconds} s at pace {most.pace * SHARE:.2f}", flush=True)
        until_s = time.time() + seconds - CALM_S
        with (
            MemoryWatch(service.process.pid) as memory,
            Killer(service.process.pid, service.url, every_s=every_s, until_s=until_s) as killer,
        ):
            run = load.run(report, pace=most.pace * SHARE, seconds=seconds, prepare=False)
        verified = _verify(service)
        made = soak_report(run, memory, killer, verified, most)
        if keep is not None and not made.report.verdict.passed:
            shutil.copytree(service.data, keep, ignore=shutil.ignore_patterns("run"))
    made.facts["neighbours"] = f"{neighbours.cores():.2f} cores kept busy by others, on average"
    page = write_report(report, made.report)
    print("\n".join(made.report.verdict.missed) or "passed")
    print(f"report: {page}")
    sys.exit(0 if made.report.verdict.passed else 1)


def _maximum(load: Load, seconds: int) -> Reached:
    with tempfile.TemporaryDirectory(prefix="tms-") as scratch:

        def run_at(pace: float) -> dict[str, Any]:
            return load.run(Path(scratch), pace=pace, seconds=seconds, prepare=pace == 1)

        print("maximum: doubling the pace until it is not kept", flush=True)
        return pace_at_most(run_at)


def _given(load: Load, pace: float, seconds: int) -> Reached:
    """A maximum that was measured before; the run warms the service up all the same."""
    with tempfile.TemporaryDirectory(prefix="tms-") as scratch:
        found = reached(load.run(Path(scratch), pace=pace, seconds=seconds, prepare=True))
    return replace(found, pace=pace)


def _verify(service: Started) -> dict[str, Any]:
    """The service's own recount, at the end."""
    headers = {"authorization": f"Bearer {service.key}"}
    answer = httpx.post(
        f"{service.url}/v1/admin/verify", json={}, headers=headers, timeout=VERIFY_S_MAX
    )
    found: dict[str, Any] = answer.json()
    return found


if __name__ == "__main__":
    app()
