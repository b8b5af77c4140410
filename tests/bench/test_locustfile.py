"""``bench/locustfile.py`` as anyone runs it: headless, against a real service."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bench.traffic.__main__ import locust_command, locust_environment
from bench.traffic.page import CHARTS, DATA, PAGE
from bench.traffic.run import Run
from bench.traffic.service import NotPrepared, client_of, prepare
from bench.traffic.verdict import DEFAULT_LIMITS, read_limits
from tests.e2e.harness import Service, running_service

PNG = b"\x89PNG\r\n\x1a\n"


def limits_file(path: Path, *, p99_ms: float) -> Path:
    """The default kinds with one limit for all: this machine's speed is not what is tested."""
    kinds = [limit.kind for limit in read_limits(DEFAULT_LIMITS)]
    path.write_text(
        "\n".join(f'[kinds."{kind}"]\np99_ms = {p99_ms}\nfailed_share = 0.5' for kind in kinds)
    )
    return path


def run_locust(host: str, key: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Locust with few users for some seconds."""
    return subprocess.run(
        [*locust_command(host, "-u", "12", "-r", "12", "--only-summary"), *args],
        env={**os.environ, **locust_environment(key)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def service() -> Service:
    """One service for all runs: each counts apart."""
    with running_service() as running:
        yield running


@pytest.mark.slow
def test_a_run_that_keeps_its_limits_ends_with_0(service: Service, tmp_path: Path):
    """Every kind was asked for, everything acknowledged is counted, and the report is there."""
    limits = limits_file(tmp_path / "limits.toml", p99_ms=60_000)
    report = tmp_path / "report"
    done = run_locust(
        service.url, service.key,
        "-t", "8s", "--pace", "2", "--batch-events", "50", "--customers", "20",
        "--limits", str(limits), "--report", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (report / CHARTS).read_bytes().startswith(PNG)
    assert "data:image/png;base64,iVBOR" in (report / PAGE).read_text()
    run = json.loads((report / DATA).read_text())
    assert run["passed"]
    events, calls = run["counted"]
    assert events["acknowledged"] == events["counted"] > 100
    assert calls["acknowledged"] == calls["counted"] > 0
    assert service.key not in (report / PAGE).read_text() + (report / DATA).read_text()


@pytest.mark.slow
def test_a_limit_nothing_can_keep_ends_with_1(service: Service, tmp_path: Path):
    """A thousandth of a millisecond: the run says which kinds missed it."""
    limits = limits_file(tmp_path / "limits.toml", p99_ms=0.001)
    report = tmp_path / "report"
    done = run_locust(
        service.url, service.key, "-t", "3s", "--limits", str(limits), "--report", str(report),
        "--customers", "20", "--no-prepare",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MISSED: post one: p99" in done.stdout
    assert "p99" in "".join(json.loads((report / DATA).read_text())["missed"])


@pytest.mark.slow
def test_a_run_that_cannot_begin_ends_with_2(service: Service, tmp_path: Path):
    """A key that is refused: said in a line, and nothing is loaded or written."""
    report = tmp_path / "none"
    refused = run_locust(service.url, "not-a-key", "-t", "1s", "--report", str(report))
    assert (refused.returncode, "catalog was refused: 401" in refused.stderr) == (2, True)
    assert not report.exists()


def test_who_cannot_be_loaded_is_named():
    """No host, or nobody there."""
    run = Run(id="r", key="k", customers=1, pace=1, batch=1)
    with pytest.raises(NotPrepared, match="--host"):
        client_of("", run)
    with (
        client_of("http://127.0.0.1:9", run) as client,
        pytest.raises(NotPrepared, match=r"127\.0\.0\.1:9"),
    ):
        prepare(client, run, apply=True)
