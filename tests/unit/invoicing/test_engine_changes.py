"""Lines that an earlier engine closed: an upgrade alone adjusts nothing, and later causes are true.

Engine 1 counted events that miss their meter's value. Facts no longer hold these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from api import bookkeeping
from catalog.clock import to_datetime
from catalog.events import VOIDS
from invoicing.suspects import Touched
from storage.arrivals import memory_arrivals
from storage.memory.facts import MemoryFactSource
from tests.finance_world import World, database_url
from tests.unit.invoicing.test_causes import TREE, adjustments
from tests.unit.rating.builders import Usage, at
from tests.unit.rating.businesses import catalog_from

Upgraded = Callable[[dict[str, Any], dict[str, str]], World]
PER_CALL = {"model": "percentage", "percent": "10", "fixed": "2"}


@pytest.fixture
def upgraded(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Upgraded:
    """January closed with 10 units and two events without a value; then facts without these."""

    def made(tree: dict[str, Any], late: dict[str, str]) -> World:
        usage = Usage(catalog_from(tree))
        usage.add("m", "s", "2026-01-10", "10")
        usage.add("m", "s", "2026-01-11").add("m", "s", "2026-01-11")
        for day, value in late.items():
            usage.add("m", "s", day, value)
            usage.rows[-1]["received_at"] = to_datetime(at("2026-02-10"))
        facts = usage.source()._facts
        gone = VOIDS.to_frame()
        url = database_url(tmp_path_factory.getbasetemp(), tmp_path.name)
        arrivals = memory_arrivals(facts, gone)
        world = World(url, MemoryFactSource(facts, gone), now=at("2026-02-02"), arrivals=arrivals)
        world.catalogs.state(at("2026-01-01"), catalog_from(tree))
        with monkeypatch.context() as earlier:
            earlier.setattr(bookkeeping, "ENGINE", "1")
            world.close("2026-01")
        world.view._source = MemoryFactSource(facts.filter(pl.col("value").is_not_null()), gone)
        return world

    return made


def per_call() -> dict[str, Any]:
    """A business with a fee per event."""
    tree = copy.deepcopy(TREE)
    tree["pricebooks"]["b"]["prices"][0]["charge"] = PER_CALL
    return tree


@pytest.mark.parametrize("tree", [TREE, per_call()])
def test_the_upgrade_alone_adjusts_nothing(upgraded: Upgraded, tree: dict[str, Any]) -> None:
    """Neither fewer events nor fees that were asked for them: closed is closed."""
    world = upgraded(tree, {})
    before = world.rows()
    assert adjustments(world, "2026-02") == []
    world.clock.set(at("2026-03-02"))
    assert adjustments(world, "2026-02") == []
    world.close("2026-02")
    assert [line for line in world.rows() if line in before] == before
    assert adjustments(world, "2026-03") == []


def test_what_comes_late_is_called_late(upgraded: Upgraded) -> None:
    """Although the line has fewer events now than it was closed with."""
    world = upgraded(TREE, {"2026-01-12": "5"})
    world.clock.set(at("2026-02-11"))
    assert adjustments(world, "2026-02") == [("ended", "late", 5, 10), ("k", "late", 5, 10)]


def test_what_is_voided_is_called_void(upgraded: Upgraded) -> None:
    """What stood when the line was closed is gone."""
    world = upgraded(TREE, {})
    gone = {
        "node": "n1",
        "seq": 9,
        "received_at": to_datetime(at("2026-02-11")),
        "target_node": "n1",
        "target_seq": 1,
        "cause": "void",
    }
    voids = pl.DataFrame([gone], schema=VOIDS, orient="row")
    facts = world.view._source._facts
    world.view._source = MemoryFactSource(facts, voids)
    world.view._suspects = Touched(catalogs=world.catalogs, arrivals=memory_arrivals(facts, voids))
    world.clock.set(at("2026-02-12"))
    given = [("ended", "void", -10, -20), ("k", "void", -10, -20)]
    assert adjustments(world, "2026-02") == given


def test_a_new_price_is_no_claim(upgraded: Upgraded) -> None:
    """Although other subjects are claimed, too, of which nothing came."""
    world = upgraded(TREE, {})
    tree = copy.deepcopy(TREE)
    tree["customers"]["c"]["subjects"] = ["s", "another"]
    tree["pricebooks"]["b"]["prices"][0]["charge"]["unit_price"] = "3"
    world.state(catalog_from(tree))
    assert adjustments(world, "2026-02") == [("ended", "reprice", 0, 10), ("k", "reprice", 0, 10)]
