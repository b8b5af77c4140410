"""What the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shared, noisy machine: time limits belong to benchmarks. CI prints how to repeat a failure.
settings.register_profile(
    "tallyman",
    deadline=None,
    # The gate judges a change, not the luck of a draw; HYPOTHESIS_RANDOM=1 searches on.
    derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tallyman")


@pytest.fixture(scope="session")
def chdb_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one chDB path of this process (it can open no second one): take a database in it."""
    return tmp_path_factory.mktemp("chdb")
