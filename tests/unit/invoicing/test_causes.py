"""What each kind of change makes of a closed line: one scenario a cause, to the cent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalog.clock import to_datetime
from catalog.events import VOIDS
from storage.arrivals import memory_arrivals
from storage.memory.facts import MemoryFactSource
from tests.finance_world import World, database_url
from tests.unit.rating.builders import Usage, at
from tests.unit.rating.businesses import catalog_from

TREE: dict[str, Any] = {
    "meters": {"m": {"event_type": "t", "aggregation": "sum", "value": "data.v"}},
    "products": {"p": {"name": "p", "meter": "m"}},
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [{"product": "p", "charge": {"model": "per_unit", "unit_price": "2"}}],
        }
    },
    "customers": {
        "c": {"name": "c", "subjects": ["s"]},
        "d": {"name": "d", "subjects": []},
    },
    "contracts": {
        "k": {"customer": "c", "pricebook": "b", "start": "2026-01-01", "timezone": "UTC"},
        "ended": {
            "customer": "c",
            "pricebook": "b",
            "start": "2026-01-01",
            "end": "2026-02-01",
            "timezone": "UTC",
        },
    },
}


def restated(**claims: list[str]) -> dict[str, Any]:
    """The business with other claims."""
    tree = copy.deepcopy(TREE)
    for customer, subjects in claims.items():
        tree["customers"][customer]["subjects"] = subjects
    return tree


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[World]:
    """January with 10 units of ``s`` closed, 7 of ``unclaimed``; 5 late, a void."""
    usage = Usage(catalog_from(TREE))
    usage.add("m", "s", "2026-01-10", "10").add("m", "unclaimed", "2026-01-11", "7")
    usage.add("m", "s", "2026-01-12", "5")
    usage.rows[-1]["received_at"] = to_datetime(at("2026-02-10"))
    facts = usage.source()._facts
    void = {
        "node": "n1",
        "seq": 9,
        "received_at": to_datetime(at("2026-03-03")),
        "target_node": "n1",
        "target_seq": 1,
        "cause": "void",
    }
    gone = pl.DataFrame([void], schema=VOIDS, orient="row")
    made = World(
        database_url(tmp_path_factory.getbasetemp(), tmp_path.name),
        MemoryFactSource(facts, gone),
        now=at("2026-02-02"),
        arrivals=memory_arrivals(facts, gone),
    )
    made.catalogs.state(at("2026-01-01"), catalog_from(TREE))
    assert made.close("2026-01")["amounts"] == {"USD": "40.00"}
    yield made
    made.end()


def adjustments(world: World, period: str) -> list[tuple[Any, ...]]:
    """(contract, cause, quantity, amount) of a period's adjustments."""
    lines = world.lines(period).filter(pl.col("kind") == "adjustment")
    found = lines.select("contract", "cause", "quantity", "amount").rows()
    return [(contract, cause, int(q), int(a)) for contract, cause, q, a in found]


def test_late(world: World) -> None:
    """In the open period; for the contract that has ended, in the first open month."""
    world.clock.set(at("2026-02-11"))
    assert adjustments(world, "2026-02") == [("ended", "late", 5, 10), ("k", "late", 5, 10)]
    assert adjustments(world, "2026-01") == []
    ended = world.lines("2026-02").filter(pl.col("contract") == "ended")
    assert ended["period_start"].to_list() == [to_datetime(at("2026-02-01"))]


def test_void(world: World) -> None:
    """After the late one was closed, the void is an adjustment of its own, of the same line."""
    world.clock.set(at("2026-03-01"))
    assert world.close("2026-02")["amounts"] == {"USD": "20.00"}
    assert adjustments(world, "2026-03") == []
    world.clock.set(at("2026-03-03"))
    assert adjustments(world, "2026-03") == [("ended", "void", -10, -20), ("k", "void", -10, -20)]
    assert adjustments(world, "2026-02") == [("ended", "late", 5, 10), ("k", "late", 5, 10)]


def test_reprice(world: World) -> None:
    """A correction of the price: the same usage, another amount."""
    tree = copy.deepcopy(TREE)
    tree["pricebooks"]["b"]["prices"][0]["charge"]["unit_price"] = "3"
    world.state(catalog_from(tree))
    assert adjustments(world, "2026-02") == [("ended", "reprice", 0, 10), ("k", "reprice", 0, 10)]


def test_claimed(world: World) -> None:
    """Usage nobody was billed for turns out to be the customer's; and it may be given away."""
    world.state(catalog_from(restated(c=["s", "unclaimed"])))
    assert adjustments(world, "2026-02") == [("ended", "claimed", 7, 14), ("k", "claimed", 7, 14)]
    world.state(catalog_from(restated(c=[], d=["s"])))
    given = [("ended", "claimed", -10, -20), ("k", "claimed", -10, -20)]
    assert adjustments(world, "2026-02") == given


def test_what_is_set_right_again_is_no_adjustment(world: World) -> None:
    """A correction taken back before anything was closed leaves nothing."""
    world.state(catalog_from(restated(c=[])))
    world.state(catalog_from(TREE))
    assert adjustments(world, "2026-02") == []
