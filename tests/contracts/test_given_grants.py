"""Bought and given grants beside the contract's allowances: one behaviour, two ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from catalog.clock import to_micros
from catalog.ids import CustomerId
from tests.ledger_world import (
    START,
    TOKENS,
    UNIT,
    World,
    grant,
    lose,
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
