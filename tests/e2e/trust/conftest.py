"""One sandbox of two gateways that logs all it can, for everything that is asked here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.bad_input.world import CATALOG
from tests.e2e.harness import Service, running_service
from tests.e2e.trust.keys import KeyChain

NOW = "2026-03-15T12:00:00Z"


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """With the hostile world's catalog and one more customer."""
    settings = {"log_level": "debug"}
    with running_service("--sandbox", "--now", NOW, "--gateways", "2", settings=settings) as made:
        made.post("/v1/catalog", {"document": CATALOG})
        made.post(
            "/v1/catalog",
            {"document": {"customers": {"other": {"name": "Other", "subjects": ["other-1"]}}}},
        )
        yield made
        assert "request_failed" not in made.logs()


@pytest.fixture(scope="package")
def keys(service: Service) -> Iterator[KeyChain]:
    """A key of every kind, and the ones that open nothing."""
    chain = KeyChain(service)
    yield chain
    chain.close()


@pytest.fixture(scope="package")
def fresh() -> Iterator[Service]:
    """A sandbox without anything in it, for the OpenAPI document's examples and then fuzzing."""
    with running_service("--sandbox", "--now", NOW) as made:
        yield made
        assert "request_failed" not in made.logs()
