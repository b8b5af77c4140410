"""What the whole suite shares."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def chdb_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one chDB path of this process (it can open no second one): take a database in it."""
    return tmp_path_factory.mktemp("chdb")
