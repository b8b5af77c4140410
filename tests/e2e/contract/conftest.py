"""One service for all of the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.contract.world import (
    CATALOG,
    NOW,
    usage,
)
from tests.e2e.harness import Service, running_service


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """A sandbox with the catalog above and its usage."""
    with running_service("--sandbox", "--now", NOW) as running:
        running.post("/v1/catalog", {"document": CATALOG})
        assert running.post("/v1/events", usage())["accepted"] == 300
        yield running
        assert "request_failed" not in running.logs()
