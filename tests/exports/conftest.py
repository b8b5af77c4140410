"""A database for every test, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.sql.database import open_database
from tests.exports.world import World, world
from tests.sql import ENGINES, fresh_url


@pytest.fixture(params=ENGINES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A deployment without closed lines."""
    with fresh_url(request.param, tmp_path) as url:
        database = open_database(url)
        try:
            yield world(database, tmp_path / "exports")
        finally:
            database.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """The same on SQLite only."""
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    try:
        yield world(database, tmp_path / "exports")
    finally:
        database.close()
