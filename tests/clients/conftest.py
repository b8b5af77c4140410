"""The client under test, from its folder: it is a package of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python"))

from tests.clients.both_kinds import Make, making
from tests.clients.flaky_service import FlakyService, Front, running


@pytest.fixture(scope="session")
def front() -> Iterator[Front]:
    """The one server of this run."""
    with running() as serving:
        yield serving


@pytest.fixture
def flaky(front: Front) -> FlakyService:
    """A small service over real HTTP that fails as it is told to; its books are empty."""
    return front.open()


@pytest.fixture(params=["threads", "asyncio"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients, of each kind in turn; they are closed at the end."""
    with making(request.param) as maker:
        yield maker
