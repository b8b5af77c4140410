"""The client under test, from its folder: it is a package of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python"))

from tests.clients.both_kinds import Make, making
from tests.clients.flaky_service import FlakyService, running


@pytest.fixture
def flaky() -> Iterator[FlakyService]:
    """A small service over real HTTP that fails as it is told to."""
    with running() as service:
        yield service


@pytest.fixture(params=["threads", "asyncio"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients, of each kind in turn; they are closed at the end."""
    with making(request.param) as maker:
        yield maker
