"""What survives a full collection is set aside."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from api import collecting


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests are collected as they were."""
    yield
    gc.callbacks.remove(collecting._set_aside)
    gc.unfreeze()


def test_what_stays_is_looked_at_once_and_again_when_asked() -> None:
    """After each full collection nothing is left to look at; until :func:`look_again`."""
    collecting.settle()
    collecting.settle()
    assert gc.callbacks.count(collecting._set_aside) == 1
    before = gc.get_freeze_count()
    kept = [[] for _ in range(1_000)]
    gc.collect(1)
    assert gc.get_freeze_count() <= before, "a short collection sets nothing aside"
    gc.collect()
    assert gc.get_freeze_count() >= before + len(kept)
    collecting.look_again()
    assert gc.get_freeze_count() == 0
