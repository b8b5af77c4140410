"""What is kept between decisions is bounded, and a batch waits no longer than one of it."""

from __future__ import annotations

import time

from entitlements.consumptions import KEPT_ITEMS_MAX, Consumptions
from entitlements.patience import SEEDING_WAIT_S
from entitlements.places import Places
from entitlements.requests import Consume, Reason
from storage.memory.ledger import MemoryLedger
from storage.redis import spelling
from tests.ledger_world import ACME, TOKENS, World, catalog, contract, item, right


def new_world() -> World:
    """100 hard tokens for acme."""
    memory = MemoryLedger()
    world = World(ledger=memory, writer=memory, state=catalog(contract("k", right())))
    world.follow()
    return world


def test_a_consume_of_many_items_is_planned_every_time() -> None:
    """Twenty thousand of a hundred items each would take 600 MB."""
    world = new_world()
    plans, now = Consumptions(Places(world.schedules)), world.clock.now_us()
    for count, kept in ((KEPT_ITEMS_MAX, True), (KEPT_ITEMS_MAX + 1, False)):
        request = Consume(customer=ACME, items=[item(TOKENS, "1")] * count, key="k")
        again = plans.terms(request, now)
        assert (plans.terms(request, now) is again) is kept


def test_data_is_not_kept_by_its_spelling() -> None:
    """It is another one every time: ten thousand of the largest would take gigabytes."""
    world = new_world()
    spelling._repeated.cache_clear()
    for data, kept in (({}, 2), ({"note": "x" * spelling.REPEATED_MAX}, 2)):
        request = Consume(customer=ACME, items=[item(TOKENS, "1")], key="k", data=data)
        demand = world.decisions.ask_consume(request).demand
        spelled = spelling.decide(demand, epoch="e", lapse=0)
        assert demand.hold is not None
        assert spelling.bulk(demand.hold.request) in spelled
        assert spelling._repeated.cache_info().currsize == kept


async def test_a_batch_of_new_customers_waits_once() -> None:
    """The reader stands still: four accounts that nobody fills cost a second, not four."""
    world = new_world()
    names = ["ada", "bea", "cleo", "dora"]
    contracts = [contract(f"k-{name}", right(), customer=name) for name in names]
    world.state(*contracts, customers={name: (name,) for name in names})
    began_s = time.monotonic()
    decided = await world.decisions.check_all([(name, [item(TOKENS, "1")]) for name in names])
    assert SEEDING_WAIT_S <= time.monotonic() - began_s < 2 * SEEDING_WAIT_S
    assert {each.items[0].reason for each in decided} == {Reason.RECOVERING}
