"""One service for all hostile input."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.bad_input.world import (
    CATALOG,
    NOW,
)
from tests.e2e.harness import Service, running_service


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """A sandbox with a small catalog, for all tests here."""
    with running_service("--sandbox", "--now", NOW) as running:
        running.post("/v1/catalog", {"document": CATALOG})
        yield running
        assert "request_failed" not in running.logs()
