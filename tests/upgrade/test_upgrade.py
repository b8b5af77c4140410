"""Data directories that earlier versions left behind, opened by today's code: every number stays.

``NAME.tar.xz`` is the whole directory after a stop; ``NAME.json`` what that version answered.
How they are made: ``tests/upgrade/make.py``.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Service, end_service, start_service
from tests.upgrade.business import SERVE, SETTINGS, answers, events

HERE = Path(__file__).parent
NAMES = sorted(path.name.removesuffix(".tar.xz") for path in HERE.glob("*.tar.xz"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """One kept directory."""
    return str(request.param)


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory for it (unix sockets)."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


def opened(name: str, home: Path, *members: str) -> Service:
    """Today's service on a kept directory, or on those of its entries that a backup has."""
    with tarfile.open(HERE / f"{name}.tar.xz") as archive:
        chosen = [each for each in archive if not members or each.name.partition("/")[0] in members]
        archive.extractall(home, members=chosen, filter="data")
    service = start_service(home, *SERVE[:1], settings=SETTINGS)
    service.client.timeout = 120
    try:
        service.wait_ready()
    except BaseException:
        end_service(service)
        raise
    return service


def money(told: dict[str, Any]) -> dict[str, Any]:
    """What a total is about, line by line: later versions may say more of a line."""
    names = ("customer", "contract", "product", "dimensions", "period_start", "kind")
    numbers = ("quantity", "amount", "currency")
    return {
        period: [{key: row[key] for key in (*names, *numbers)} for row in month["items"]]
        for period, month in told["months"].items()
    }


def check(service: Service, kept: dict[str, Any]) -> None:
    """Totals as of then and now, usage, balances; and its own recount."""
    as_of = max(month["as_of"] for month in kept["months"].values())
    for moment in (as_of, None):
        told = answers(service, as_of=moment)
        assert money(told) == money(kept)
        assert told["usage"] == kept["usage"]
        assert told["balances"] == kept["balances"]
    report = service.post("/v1/admin/verify", {})
    assert report["ok"], report


def test_a_kept_directory_is_opened(name: str, home: Path) -> None:
    """Nothing is lost or counted twice, identities are remembered, and new events count."""
    kept = json.loads((HERE / f"{name}.json").read_text())
    service = opened(name, home)
    try:
        check(service, kept)
        again = service.post("/v1/events", events(3))
        assert (again["accepted"], again["duplicates"]) == (0, len(events(3)))
        added = service.post("/v1/events", events(7))
        assert added["accepted"] == len(events(7))
        (row,) = service.get("/v1/meters/calls/usage")["items"]
        before = sum(int(each["value"]) for each in kept["usage"]["calls"])
        assert int(row["value"]) == before + len(events(7)) * 9 // 10
        assert service.post("/v1/admin/verify", {})["ok"]
    finally:
        end_service(service)


def test_a_kept_backup_is_restored(name: str, home: Path) -> None:
    """Its log and SQL alone, as docs/operations.md says, give the same numbers."""
    kept = json.loads((HERE / f"{name}.json").read_text())
    service = opened(name, home, "nodes", "instance", "catalog.sqlite", "clock", "sandbox")
    try:
        check(service, kept)
    finally:
        end_service(service)


def test_something_is_kept() -> None:
    """The tests above test something."""
    assert len(NAMES) >= 1
