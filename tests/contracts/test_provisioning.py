"""Contracts provision and revoke: to the microsecond, by the clock alone, on both ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from catalog.clock import SECOND_US, to_micros
from catalog.contracts import Amendment
from catalog.ids import PricebookId
from catalog.pricebooks import Anchor, Invoicing, Pricebook, Timing
from catalog.snapshot import Catalog
from entitlements.requests import Reason
from tests.ledger_world import (
    START,
    TOKENS,
    UNIT,
    World,
    catalog,
    chain,
    contract,
    grant,
    right,
    shown,
)

NOON = datetime(2026, 11, 10, 12, 0, 30, tzinfo=UTC)


def at(world: World, instant: datetime, *, micros: int = 0) -> None:
    world.clock.set(to_micros(instant) + micros)


async def reason(world: World):
    return (await world.check((TOKENS, "1"))).items[0].reason


async def test_a_contract_gives_from_its_start_until_its_end(world: World) -> None:
    """Neither a microsecond before nor one after; the catalog was stated long before."""
    end = NOON + timedelta(days=3, seconds=1)
    world.state(contract("k", right(), start=NOON, end=end))
    world.follow()
    at(world, NOON, micros=-1)
    assert await reason(world) is Reason.NO_ENTITLEMENT
    at(world, NOON)
    assert (await world.consume((TOKENS, "100"))).allowed
    at(world, end, micros=-1)
    assert await reason(world) is Reason.INSUFFICIENT
    assert (await shown(world)).resets_at == to_micros(end), "the term is over before the month"
    at(world, end)
    assert await reason(world) is Reason.EXPIRED
    assert not (await world.consume((TOKENS, "1"))).allowed
    world.follow()
    assert world.reader.recount() == []


async def test_an_amendment_provisions_and_revokes(world: World) -> None:
    """A larger pricebook from one second on; what was burned stays burned; then an earlier end."""
    later, over = NOON + timedelta(seconds=1), NOON + timedelta(days=2)
    world.catalog = upgraded(later, over)
    world.follow()
    at(world, NOON)
    assert (await world.consume((TOKENS, "8"))).allowed
    assert await reason(world) is None
    at(world, later, micros=-1)
    assert await world.left() == 2
    at(world, later)
    assert await world.left() == 992, "the same period, with more in it"
    at(world, over, micros=-1)
    assert await reason(world) is None
    at(world, over)
    assert await reason(world) is Reason.EXPIRED
    world.follow()
    assert world.reader.recount() == []


def upgraded(later: datetime, over: datetime) -> Catalog:
    """The contract of a small pricebook that moves to a large one, and then ends early."""
    amendments = (
        Amendment(effective_from=later, pricebook=PricebookId("large")),
        Amendment(effective_from=over, end=over),
    )
    small = contract("k", pricebook=PricebookId("small"), amendments=amendments)
    books = {
        name: Pricebook(
            id=PricebookId(name),
            currency="USD",
            invoicing=Invoicing(timing=Timing.ARREARS),
            prices=(),
            entitlements=(right(amount=amount),),
        )
        for name, amount in (("small", "10"), ("large", "1000"))
    }
    state = catalog(small, revision=2)
    return replace(state, pricebooks={book.id: chain(book) for book in books.values()})


async def test_a_contract_that_is_retired_takes_its_allowance_along(world: World) -> None:
    """Its usage stays counted, nothing more may be used."""
    assert (await world.consume((TOKENS, "40"))).allowed
    world.follow()
    world.state()
    world.follow()
    assert await reason(world) is Reason.NO_ENTITLEMENT
    world.state(contract("k", right()))
    world.follow()
    assert await world.left() == 60


@pytest.mark.parametrize("second", [0, 1, 59])
async def test_grants_begin_and_end_on_the_second(world: World, second: int) -> None:
    """Not on the minute: two grants a second apart, each for a second."""
    begins = START + timedelta(hours=2, seconds=second)
    world.give(
        grant("first", "5", since=begins, until=begins + timedelta(seconds=1)),
        grant(
            "other", "7", since=begins + timedelta(seconds=1), until=begins + timedelta(seconds=2)
        ),
    )
    world.follow()
    seen = []
    for offset in (-1, 0, SECOND_US - 1, SECOND_US, 2 * SECOND_US - 1, 2 * SECOND_US):
        at(world, begins, micros=offset)
        seen.append(await world.left())
    assert seen == [100, 105, 105, 107, 107, 100]


async def test_usage_of_a_second_burns_what_held_in_it(world: World) -> None:
    """A late event burns the grant of its own second, not what holds now."""
    begins = START + timedelta(hours=2)
    world.give(grant("brief", "5", since=begins, until=begins + timedelta(seconds=1), priority=-1))
    world.follow()
    at(world, begins + timedelta(minutes=5))
    world.use("3", at=begins + timedelta(microseconds=999_999))
    world.use("4", at=begins + timedelta(seconds=1))
    world.follow()
    assert await world.left() == 96
    assert (await shown(world)).used == 4 * UNIT
    assert world.reader.recount() == []


async def test_months_of_the_calendar(world: World) -> None:
    """A contract from the 10th that resets on the first: a short first period, whole allowances."""
    calendar = right(anchor=Anchor.CALENDAR)
    world.state(contract("k", calendar, start=date(2026, 11, 10)))
    world.follow()
    at(world, NOON)
    assert (await world.consume((TOKENS, "100"))).allowed
    at(world, datetime(2026, 12, 1, tzinfo=UTC), micros=-1)
    assert await reason(world) is Reason.INSUFFICIENT
    at(world, datetime(2026, 12, 1, tzinfo=UTC))
    assert await world.left() == 100
    assert (await shown(world)).resets_at == to_micros(datetime(2027, 1, 1, tzinfo=UTC))
