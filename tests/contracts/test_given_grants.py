"""Bought and given grants beside the contract's allowances: one behaviour, two ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from catalog.clock import to_micros
from catalog.ids import CustomerId
from catalog.pricebooks import Anchor
from entitlements.ports import LedgerUnavailable
from entitlements.schedules import Schedules
from tests.ledger_world import (
    START,
    TOKENS,
    UNIT,
    World,
    contract,
    grant,
    lose,
    right,
    shown,
)

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


async def test_a_grant_adds_to_the_allowance_and_shows_what_is_left(world: World) -> None:
    """The monthly allowance expires first, so it burns first; the top-up is there next month."""
    world.give(grant("top-up", "50"))
    world.follow()
    assert (await world.consume((TOKENS, "120"))).allowed
    world.follow()
    seen = await shown(world)
    assert (seen.allowance, seen.used, seen.balance) == (150 * UNIT, 120 * UNIT, 30 * UNIT)
    left = {lot.grant.given: lot.remaining for lot in seen.grants}
    assert left == {None: 0, "top-up": 30 * UNIT}
    world.clock.set(to_micros(DECEMBER))
    assert await world.left() == 130
    assert world.reader.recount() == []


async def test_a_top_up_pays_the_overage(world: World) -> None:
    """Denied, topped up, allowed: what was overdrawn is paid first."""
    world.use("110")
    world.follow()
    assert not (await world.consume((TOKENS, "1"))).allowed
    world.give(grant("top-up", "15", since=START + timedelta(hours=1)))
    world.follow()
    assert await world.left() == 5


async def test_grants_alone_are_an_entitlement(world: World) -> None:
    """A customer without a contract for the feature: nothing, then the grant, then expired."""
    bolt = CustomerId("bolt")
    once = grant("g", "7", until=START + timedelta(days=1))
    world.give(replace(once, customer=bolt))
    world.follow()
    assert (await world.consume((TOKENS, "7"), customer=bolt)).items[0].balance == 0
    assert not (await world.consume((TOKENS, "1"), customer=bolt)).allowed
    world.clock.set(to_micros(START + timedelta(days=1)))
    assert (await world.consume((TOKENS, "1"), customer=bolt)).items[0].reason == "expired"


async def test_rollover_max_is_what_survives_a_reset(world: World) -> None:
    """50 granted, 20 of it used, at most 12 go into December, and all of those into January."""
    world.give(grant("g", "50", rollover_max="12", priority=-1))
    world.follow()
    await world.consume((TOKENS, "20"))
    assert await world.left() == 130
    world.follow()
    world.clock.set(to_micros(DECEMBER))
    assert await world.left() == 112
    assert (await world.consume((TOKENS, "5"))).allowed
    world.follow()
    world.clock.set(to_micros(datetime(2027, 1, 1, tzinfo=UTC)))
    assert await world.left() == 107
    lots = (await shown(world)).grants
    assert (lots[0].grant.given, lots[0].remaining) == ("g", 7 * UNIT)


async def test_a_revoked_grant_ends_and_what_it_paid_stays_paid(world: World) -> None:
    """Revoked after 30 of its 50 were used: the allowance is whole, the rest of it gone."""
    given = grant("g", "50", priority=-1)
    world.give(given)
    world.follow()
    await world.consume((TOKENS, "30"))
    world.pass_time(10)
    world.give(replace(given, revoked_at=world.clock.now_us()))
    world.follow()
    assert await world.left() == 100
    assert [lot.grant.given for lot in (await shown(world)).grants] == [None]
    assert world.reader.recount() == []


async def test_a_grant_takes_effect_and_expires_to_the_microsecond(world: World) -> None:
    """Not before, and not after: second resolution and finer."""
    since, until = START + timedelta(hours=2), START + timedelta(hours=2, seconds=1)
    world.give(grant("g", "5", since=since, until=until))
    world.follow()
    for at, left in [
        (to_micros(since) - 1, 100),
        (to_micros(since), 105),
        (to_micros(until) - 1, 105),
        (to_micros(until), 100),
    ]:
        world.clock.set(at)
        assert await world.left() == left


async def test_a_reservation_outlives_the_grant_it_was_made_on(world: World) -> None:
    """It was sold while the grant was there: it settles after that, and costs the rest nothing."""
    world.state()
    world.give(grant("g", "5", until=START + timedelta(hours=1, minutes=5)))
    world.follow()
    reserved = await world.reserve((TOKENS, "5"), ttl_s=900)
    late = await world.reserve((TOKENS, "1"), ttl_s=900)
    assert (reserved.decision.allowed, late.decision.allowed) == (True, False)
    world.pass_time(600)
    assert (await world.settle(reserved, (TOKENS, "5"))).allowed
    world.follow()
    assert world.reader.recount() == []


async def test_grants_are_there_again_after_a_loss(world: World) -> None:
    """They are SQL's, the usage is the log's: the rebuilt balance is the one before."""
    world.give(grant("g", "50", priority=1), grant("h", "25"))
    world.follow()
    await world.consume((TOKENS, "140"))
    lose(world)
    world.follow()
    await world.refresh()
    assert await world.left() == 35


async def test_a_recurring_grant_is_given_anew(world: World) -> None:
    """Every month from its own beginning, at most ``rollover_max`` of the last one kept, then over.

    The contract's reset on the first of the month leaves it alone, and its own the contract's.
    """
    tenth = START + timedelta(days=9)
    ends = datetime(2027, 1, 20, tzinfo=UTC)
    world.give(
        grant(
            "extra", "30", since=tenth, until=ends, every_months=1, rollover_max="10", priority=-1
        )
    )
    world.follow()
    assert await world.left() == 100, "it has not begun"
    world.clock.set(to_micros(tenth))
    assert (await world.consume((TOKENS, "5"))).items[0].balance == 125 * UNIT
    world.follow()
    world.clock.set(to_micros(DECEMBER))
    assert await world.left() == 125, "the contract's is anew, 25 of the grant are left"
    world.clock.set(to_micros(tenth.replace(month=12)) - 1)
    assert await world.left() == 125
    world.clock.set(to_micros(tenth.replace(month=12)))
    assert await world.left() == 140, "30 new ones, 10 of the 25 rolled over"
    seen = await shown(world)
    assert {lot.grant.given: lot.amount for lot in seen.grants} == {
        None: 100 * UNIT,
        "extra": 40 * UNIT,
    }
    world.clock.set(to_micros(ends))
    assert await world.left() == 100
    assert world.reader.recount() == []


async def test_a_recurring_grant_of_the_calendar_is_revoked(world: World) -> None:
    """Anchored on the calendar it resets on the first; revoked, it is not given again."""
    bolt = CustomerId("bolt")
    mid = START + timedelta(days=14)
    given = replace(
        grant("extra", "30", since=mid, every_months=1, anchor=Anchor.CALENDAR), customer=bolt
    )
    world.give(given)
    world.follow()
    world.clock.set(to_micros(mid))
    assert (await world.consume((TOKENS, "30"), customer=bolt)).allowed
    world.clock.set(to_micros(DECEMBER) - 1)
    assert not (await world.consume((TOKENS, "1"), customer=bolt)).allowed
    world.clock.set(to_micros(DECEMBER))
    assert (await world.consume((TOKENS, "30"), customer=bolt)).allowed
    seen = await shown(world, customer=bolt)
    assert seen.resets_at == to_micros(datetime(2027, 1, 1, tzinfo=UTC))
    world.give(replace(given, revoked_at=to_micros(DECEMBER) + 1))
    world.follow()
    world.clock.set(to_micros(datetime(2027, 1, 1, tzinfo=UTC)))
    assert (await world.consume((TOKENS, "1"), customer=bolt)).items[0].reason == "expired"
    assert world.reader.recount() == []


async def test_a_grant_looks_at_its_customer_only(world: World) -> None:
    """What a grant costs does not grow with the customers it leaves alone."""
    world.state(
        *(contract(f"k{n}", right(), customer=f"c{n}") for n in range(50)),
        customers={f"c{n}": (f"c{n}",) for n in range(50)},
    )
    world.follow()
    looked: list[str] = []
    metered = Schedules.metered

    def counting(self: Schedules, customer: CustomerId):
        looked.append(customer)
        return metered(self, customer)

    Schedules.metered = counting
    try:
        world.give(replace(grant("extra", "30"), customer=CustomerId("c7")))
        world.follow()
    finally:
        Schedules.metered = metered
    assert set(looked) == {"c7"}
    assert await world.check((TOKENS, "130"), customer=CustomerId("c7"))
    assert world.reader.recount() == []


async def test_a_filing_that_fails_is_taken_again(world: World, monkeypatch) -> None:
    """The ledger does not answer while a grant is filed: the next step files it."""
    refill = world.writer.refill

    def broken(*_) -> None:
        raise LedgerUnavailable("no answer")

    monkeypatch.setattr(world.writer, "refill", broken)
    world.give(grant("extra", "30"))
    with pytest.raises(LedgerUnavailable):
        world.follow()
    monkeypatch.setattr(world.writer, "refill", refill)
    world.follow()
    assert await world.left() == 130
