"""The same answers whatever stands behind the ports: embedded engines, or servers by URL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse_front import front
from tests.e2e.harness import Service, end_service, running_service, start_service
from tests.e2e.test_worked_example import CATALOG, EVENTS
from tests.postgres import fresh_database

USAGE = [
    {
        "id": f"more-{i}",
        "source": "bframe",
        "type": "updates",
        "subject": "optimus",
        "time": f"2023-11-{1 + i % 30:02d}T00:00:00Z",
        "data": {"n": f"{i}.{i:09d}"},
    }
    for i in range(1, 400)
]
VOIDED = [{"source": "bframe", "id": f"more-{i}", "reason": "a test"} for i in range(1, 400, 7)]


def fill(service: Service) -> None:
    """The worked example, some fractions of units, and a few voids."""
    service.post("/v1/catalog", {"document": CATALOG})
    assert service.post("/v1/events", EVENTS + USAGE)["accepted"] == len(EVENTS) + len(USAGE)
    assert service.post("/v1/events/void", VOIDED)["voided"] == len(VOIDED)


def november(service: Service) -> dict[str, Any]:
    """Totals of November."""
    return dict(service.get("/v1/totals", period="2023-11", limit=1000))


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory for one data directory (unix sockets)."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


@pytest.mark.slow
def test_parquet_and_clickhouse_rate_alike(home: Path) -> None:
    """The same instant rated from Parquet and from ClickHouse has the same checksum."""
    service = start_service(home)
    try:
        service.wait_ready()
        fill(service)
        from_parquet = november(service)
        assert service.stop() == 0
    finally:
        end_service(service)
    settings = {"rate_from": "clickhouse"}
    service = start_service(home, key=service.key, settings=settings)
    try:
        service.wait_ready()
        path = "/v1/totals"
        from_clickhouse = service.get(
            path, period="2023-11", limit=1000, as_of=from_parquet["as_of"]
        )
        assert from_clickhouse["checksum"] == from_parquet["checksum"]
        assert from_clickhouse["items"] == from_parquet["items"]
    finally:
        end_service(service)


@pytest.mark.slow
def test_servers_by_url_answer_like_the_embedded_engines(home: Path, tmp_path: Path) -> None:
    """PostgreSQL and ClickHouse over HTTP: the same lines, clean, and still so after a restart."""
    with running_service() as embedded:
        fill(embedded)
        expected = november(embedded)["items"]
    with front(tmp_path / "chdb") as clickhouse, fresh_database() as postgres:
        settings = {
            "sql_url": postgres,
            "clickhouse_url": clickhouse.url,
            "rate_from": "clickhouse",
        }
        service = start_service(home, settings=settings)
        try:
            service.wait_ready()
            fill(service)
            amounts = [(row["line_id"], row["amount"], row["quantity"]) for row in expected]
            found = november(service)
            assert [(r["line_id"], r["amount"], r["quantity"]) for r in found["items"]] == amounts
            report = service.post("/v1/admin/verify", {})
            assert report["ok"], report
            assert not (home / "catalog.sqlite").exists()
        finally:
            end_service(service)
        service = start_service(home, key=service.key, settings=settings)
        try:
            service.wait_ready()
            again = service.get("/v1/totals", period="2023-11", limit=1000, as_of=found["as_of"])
            assert again["checksum"] == found["checksum"]
        finally:
            end_service(service)
