"""Time travel: whatever happened since, ``as_of`` gives the bytes that were given then."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog.clock import Micros, to_datetime, to_micros
from catalog.errors import DomainError
from tests.time_machine import Answer, World

BEGUN = to_micros(datetime(2026, 1, 3, tzinfo=UTC))
PERIODS = ("2025-12", "2026-01", "2026-02", "2026-Q1", "2026")
HOUR_US = 3_600_000_000
STEPS = 22


def price(product: str, unit_price: str, **terms: Any) -> dict[str, Any]:
    """A price by the unit."""
    return {"product": product, "charge": {"model": "per_unit", "unit_price": unit_price}} | terms


def tiered(product: str, first: str) -> dict[str, Any]:
    """A price in two tiers."""
    tiers = [{"up_to": "50", "unit_price": first}, {"unit_price": "0.01"}]
    return {"product": product, "charge": {"model": "graduated", "tiers": tiers}}


def meter(aggregation: str, value: str = "data.n", **more: Any) -> dict[str, Any]:
    """A meter of calls, by region."""
    counted = {} if aggregation == "count" else {"value": value}
    dimensions = {"region": "data.region"}
    return {
        "event_type": "call", "aggregation": aggregation, "dimensions": dimensions,
        **counted, **more,
    }  # fmt: skip


def pricebook(rng: random.Random) -> dict[str, Any]:
    """A list: what is charged changes, what is on it hardly."""
    return {
        "currency": "USD",
        "invoicing": {"timing": "arrears", "every_months": 1},
        "prices": [
            tiered("calls", f"0.{rng.randrange(10, 99)}"),
            price("peak", f"{rng.randrange(1, 9)}", group_by=["region"]),
            {
                "product": "fee",
                "charge": {"model": "flat", "amount": str(rng.randrange(10, 99))},
                "invoicing": {"timing": "advance", "every_months": 1},
                "prorate": rng.choice([False, "days"]),
            },
        ],
    }


def customers(rng: random.Random) -> dict[str, Any]:
    """Who pays for ``shared`` moves from one customer to the other, some day."""
    day = f"2026-01-{rng.randrange(2, 28):02}"
    left, right = rng.sample([{"until": day}, {"from": day}], 2)
    return {
        "a": {"name": "A", "subjects": ["sa", {"subject": "shared", **left}]},
        "b": {"name": "B", "subjects": ["sb", {"subject": "shared", **right}]},
    }


def contract(rng: random.Random, customer: str) -> dict[str, Any]:
    """Amended now and then, with a factor or a discount."""
    found: dict[str, Any] = {
        "customer": customer,
        "pricebook": "list",
        "start": "2025-12-10",
        "timezone": rng.choice(["UTC", "America/New_York"]) if customer == "b" else "UTC",
    }
    match rng.randrange(4):
        case 0:
            found["prices"] = [{"product": "calls", "multiply": f"0.{rng.randrange(5, 9)}"}]
        case 1:
            amendment = {"prices": [price("calls", f"0.{rng.randrange(1, 9)}")]}
            day = f"2026-01-{rng.randrange(5, 30):02}"
            found["amendments"] = [{"effective_from": day, **amendment}]
        case 2:
            found["discounts"] = [{"percent": str(rng.randrange(1, 30))}]
            found["minimum"] = {"amount": "75", "every_months": 1}
    return found


def beginning(rng: random.Random) -> dict[str, Any]:
    """What is applied first."""
    return {
        "meters": {"calls": meter("sum"), "peak": meter("max")},
        "products": {
            "calls": {"name": "Calls", "meter": "calls"},
            "peak": {"name": "Peak", "meter": "peak"},
            "fee": {"name": "Fee"},
        },
        "pricebooks": {"list": pricebook(rng)},
        "customers": customers(rng),
        "contracts": {"ka": contract(rng, "a"), "kb": contract(rng, "b")},
    }


@dataclass
class History:
    """A random history under way, and every answer that was given in it."""

    world: World
    rng: random.Random
    sent: list[str] = field(default_factory=list)
    told: list[tuple[str, Answer]] = field(default_factory=list)

    def step(self) -> None:
        """Something happens; then totals are asked for, now and at an instant that has been."""
        self.world.forward(self.rng.randrange(1, 60) * HOUR_US)
        happening = self.rng.choice(
            [self.send, self.send, self.send, self.void, self.correct, self.change, self.seal]
        )
        happening()
        period = self.rng.choice(PERIODS)
        self.told.append((period, self.world.ask(period)))
        earlier = self.rng.randrange(BEGUN, self.told[-1][1].as_of + 1)
        self.told.append((period, self.world.ask(period, Micros(earlier))))

    def send(self) -> None:
        """Some events, new, late, or sent before."""
        now = to_datetime(self.world.clock.now_us())
        batch = []
        for _ in range(self.rng.randrange(1, 9)):
            if self.sent and self.rng.random() < 0.15:
                batch.append(self.event(self.rng.choice(self.sent), now))
                continue
            self.sent.append(f"e{len(self.sent)}")
            batch.append(self.event(self.sent[-1], now))
        self.world.send(batch)

    def event(self, name: str, now: datetime) -> dict[str, Any]:
        """The event of that name: always the same but for when it happened."""
        own = random.Random(name)
        late = timedelta(seconds=own.randrange(0, 35 * 86_400))
        return {
            "id": name,
            "source": "test",
            "type": "call",
            "subject": own.choice(["sa", "sb", "shared"]),
            "time": (now - late).isoformat(),
            "data": {"n": own.randrange(-5, 60), "m": 2, "region": own.choice(["eu", "us"])},
        }

    def void(self) -> None:
        """One event is taken back, again perhaps."""
        if self.sent:
            self.world.void("test", self.rng.choice(self.sent))

    def correct(self) -> None:
        """A statement from the beginning on, or from a day on: of anything."""
        whole = beginning(self.rng)
        family = self.rng.choice(["pricebooks", "customers", "contracts"])
        stated = whole[family]
        if family != "customers" and self.rng.random() < 0.5:
            day = f"2026-0{self.rng.randrange(1, 3)}-{self.rng.randrange(1, 28):02}"
            stated = {name: body | {"effective_from": day} for name, body in stated.items()}
        self.apply({family: stated})

    def change(self) -> None:
        """A meter reads something else: its facts are extracted from the log again."""
        shape = self.rng.choice(
            [meter("sum", "data.m"), meter("count"), meter("sum"), meter("average")]
        )
        if self.rng.random() < 0.5:
            shape["filter"] = {"data.region": {"in": ["eu"]}}
        self.apply({"meters": {"calls": shape}})

    def apply(self, document: dict[str, Any]) -> None:
        """What the catalog refuses has not happened."""
        try:
            self.world.apply(document)
        except DomainError:
            return

    def seal(self) -> None:
        """Hot files become segments, facts become files; or the worker starts again."""
        self.world.seal()
        if self.rng.random() < 0.5:
            self.world.restart_readers()


def differing(history: History) -> list[tuple[str, Micros]]:
    """Which of the answers are not given again."""
    return [
        (period, answer.as_of)
        for period, answer in history.told
        if history.world.ask(period, answer.as_of) != answer
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_as_of_reproduces_every_answer_byte_for_byte(tmp_path: Path, seed: int) -> None:
    """Late events, voids, resends, corrections and new meters came since; nothing changed then.

    The same from facts in memory, after a restart, and from facts extracted anew.
    """
    rng = random.Random(seed)
    with World(tmp_path, now_us=BEGUN) as world:
        world.apply(beginning(rng))
        history = History(world, rng)
        for _ in range(STEPS):
            history.step()
        assert differing(history) == []
        world.seal()
        world.restart_readers(drop=True)
        assert differing(history) == []
        different = {answer.csv for _, answer in history.told}
        assert len(different) > STEPS / 2, "the history must have something to travel through"


def test_explanations_travel_too(tmp_path: Path) -> None:
    """What was explained once is explained the same, whatever came after."""
    rng = random.Random(99)
    with World(tmp_path, now_us=BEGUN) as world:
        world.apply(beginning(rng))
        history = History(world, rng)
        for _ in range(8):
            history.send()
            world.forward(20 * HOUR_US)
        as_of = world.ask("2026-01").as_of
        told = world.explained("2026-01", as_of)
        assert told
        for _ in range(10):
            history.step()
        assert world.explained("2026-01", as_of) == told
