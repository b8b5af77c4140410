"""A running service for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness import Service, running_service


@pytest.fixture
def service() -> Iterator[Service]:
    """A fresh service, ready, ended after the test."""
    with running_service() as running:
        yield running
