"""A dense quarter, by seed: many adjustments of every cause, checked after every step.

What the random businesses of ``test_books_oracle`` do rarely happens here all the time.
"""

from __future__ import annotations

import copy
import random
from decimal import Decimal
from typing import Any

import pytest

from invoicing.documents import Grouping
from storage.arrivals import memory_arrivals
from storage.memory.facts import MemoryFactSource
from tests.finance_world import World, database_url
from tests.oracle import Event
from tests.unit.invoicing.test_books_oracle import (
    BEGIN,
    DAY,
    Business,
    catalog_from,
    facts_of,
    voids_frame,
)
from tests.unit.rating.businesses import DIMENSIONS, Tree

MONTH = {"timing": "arrears", "every_months": 1}
TREE: Tree = {
    "meters": {
        name: body | {"dimensions": DIMENSIONS}
        for name, body in {
            "summed": {"event_type": "t", "aggregation": "sum", "value": "data.v"},
            "counted": {"event_type": "u", "aggregation": "count"},
            "shaped": {"event_type": "v", "aggregation": "average", "value": "data.v"},
        }.items()
    },
    "products": {
        "summed": {"name": "summed", "meter": "summed"},
        "counted": {"name": "counted", "meter": "counted"},
        "shaped": {"name": "shaped", "meter": "shaped"},
        "fee": {"name": "fee"},
        "setup": {"name": "setup"},
    },
    "pricebooks": {
        "b1": {
            "currency": "USD",
            "invoicing": MONTH,
            "prices": [
                {
                    "product": "summed",
                    "group_by": ["region"],
                    "included": "5",
                    "charge": {
                        "model": "graduated",
                        "tiers": [{"up_to": "40", "unit_price": "1.013"}, {"unit_price": "0.517"}],
                    },
                },
                {
                    "product": "counted",
                    "minimum": "3.00",
                    "charge": {"model": "package", "size": "3", "package_price": "0.777"},
                },
                {
                    "product": "shaped",
                    "invoicing": {"timing": "arrears", "every_weeks": 1},
                    "charge": {"model": "per_unit", "unit_price": "0.333"},
                },
                {
                    "product": "fee",
                    "invoicing": {"timing": "advance", "every_months": 1},
                    "charge": {"model": "flat", "amount": "10.00"},
                    "prorate": "days",
                },
                {
                    "product": "setup",
                    "invoicing": {"timing": "once"},
                    "charge": {"model": "flat", "amount": "99.00"},
                },
            ],
        }
    },
    "customers": {
        "c0": {"name": "parent", "subjects": []},
        "c1": {"name": "c1", "parent": "c0", "subjects": ["s1", "s2"]},
        "c2": {"name": "c2", "parent": "c0", "subjects": ["s3"]},
    },
    "contracts": {
        "k1": {"customer": "c1", "pricebook": "b1", "start": "2025-11-25"},
        "k2": {
            "customer": "c2",
            "pricebook": "b1",
            "start": "2025-12-10",
            "timezone": "America/New_York",
        },
        "k3": {
            "customer": "c2",
            "pricebook": "b1",
            "start": "2025-11-20",
            "end": "2026-01-20",
            "timezone": "Europe/Berlin",
        },
    },
}


def corrections() -> list[Tree]:
    """The business, re-priced, ended, extended, with other claims, and re-priced again."""
    found = [TREE]
    for change in (_priced("2.00"), _ended("k1", "2026-02-01"), _ended("k3", None), _claims):
        tree = copy.deepcopy(TREE)
        change(tree)
        found.append(tree)
    return found


def _priced(unit_price: str) -> Any:
    def change(tree: Tree) -> None:
        prices = tree["pricebooks"]["b1"]["prices"]
        prices[0]["charge"]["tiers"][1]["unit_price"] = unit_price
        prices[3]["charge"]["amount"] = "12.50"

    return change


def _ended(contract: str, end: str | None) -> Any:
    def change(tree: Tree) -> None:
        tree["contracts"][contract].pop("end", None)
        tree["contracts"][contract] |= {} if end is None else {"end": end}

    return change


def _claims(tree: Tree) -> None:
    tree["customers"]["c1"]["subjects"] = ["s1"]
    tree["customers"]["c2"]["subjects"] = ["s3", {"subject": "s2", "from": "2026-01-01"}]


def history(dice: random.Random) -> tuple[list[Event], dict[int, int]]:
    """Events of four months, a third of them late, some voided later."""
    found, voids = [], {}
    for index in range(90):
        meter = dice.choice(["summed", "summed", "counted", "shaped"])
        when = BEGIN + dice.randrange(115) * DAY + dice.randrange(DAY)
        late = dice.choice([0, 0, 0, 0, 5, 30, 36, 70]) * DAY
        received_at = when + late + index
        found.append(
            Event(
                meter=meter,
                subject=dice.choice(["s1", "s2", "s3", "stranger"]),
                time=when,
                received_at=received_at,
                value=None if meter == "counted" else Decimal(dice.randrange(20_000)).scaleb(-3),
                dimensions=(("region", dice.choice(["eu", "us"])),),
            )
        )
        if dice.random() < 0.15:
            voids[index] = received_at + dice.randrange(1, 60) * DAY
    return found, voids


def steps(dice: random.Random) -> list[tuple[int, str, int]]:
    """A hundred days or so."""
    kinds = ["close", "close", "rewrite", "rewrite", "issue all", "issue", "void", "nothing"]
    drawn = [(dice.choice([1, 7, 12]), dice.choice(kinds), dice.randrange(10)) for _ in range(8)]
    return [*drawn[:3], (9, "close", 0), (1, "rewrite", dice.randrange(1, 5)), *drawn[3:]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_dense_quarter(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every promise holds after every step, and adjustments of several causes were closed."""
    dice = random.Random(seed)
    catalogs = [catalog_from(tree) for tree in corrections()]
    found, voids = history(dice)
    facts, gone = facts_of(catalogs[0], found), voids_frame(voids)
    source, arrivals = MemoryFactSource(facts, gone), memory_arrivals(facts, gone)
    url = database_url(tmp_path_factory.getbasetemp(), f"months-{seed}")
    grouping = list(Grouping)[seed % 3]
    world = World(url, source, now=to_micros_at(42), grouping=grouping, arrivals=arrivals)
    try:
        world.state(catalogs[0])
        business = Business(world, found, voids)
        for step in [(0, "close", 0), *steps(dice), (20, "close", 0)]:
            business.take(step, catalogs)
            business.check()
        causes = set(world.books.closed_after(0, limit=100_000)["cause"].drop_nulls())
        assert len(causes) >= 2, causes
    finally:
        world.end()


def to_micros_at(day: int) -> int:
    """So many days after the first event may be."""
    return BEGIN + day * DAY
