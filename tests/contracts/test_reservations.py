"""Reserve, settle, release, expire: one behaviour, two ledgers."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from catalog.clock import to_micros
from catalog.errors import InvalidRequest, NotFound
from catalog.events import RecordKind
from entitlements.ports import LedgerLost
from entitlements.requests import KeyReused, Reason, ReservationEnded, ReservationExpired, Reserve
from tests.ledger_world import (
    ACME,
    CALLS,
    TOKENS,
    UNIT,
    World,
    contract,
    item,
    lose,
    right,
    shown,
    soft,
)


async def test_a_reservation_holds_and_a_settle_uses_and_gives_the_rest_back(world: World) -> None:
    """100: 60 held leave 40; 25.5 of them used leave 74.5, at once and after the log is applied."""
    reserved = await world.reserve((TOKENS, "60"))
    assert (reserved.decision.allowed, reserved.decision.items[0].balance) == (True, 40 * UNIT)
    assert not (await world.consume((TOKENS, "40.000000001"))).allowed
    settled = await world.settle(reserved, (TOKENS, "25.5"))
    assert (settled.allowed, settled.items[0].balance) == (True, 74_500_000_000)
    assert await world.left() == Decimal("74.5")
    seen = await shown(world)
    assert (seen.used, seen.held) == (0, 25_500_000_000)
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.held, seen.balance) == (25_500_000_000, 0, 74_500_000_000)
    assert world.reader.recount() == []


async def test_a_release_gives_everything_back(world: World) -> None:
    """Nothing of it was used: no event, and again is fine."""
    reserved = await world.reserve((TOKENS, "60"))
    await world.release(reserved)
    assert await world.left() == 100
    await world.release(reserved)
    world.follow()
    await world.release(reserved)
    assert await world.left() == 100
    assert world.sink.appended == 0


async def test_a_denied_reserve_holds_nothing_and_leaves_the_key_free(world: World) -> None:
    """All or nothing, and the same key may be tried again."""
    world.state(contract("k", right(), right(CALLS, "5")))
    world.follow()
    denied = await world.reserve((TOKENS, "10"), (CALLS, "6"), key="a")
    assert denied.reservation is None
    assert [one.reason for one in denied.decision.items] == [None, Reason.INSUFFICIENT]
    assert (await world.left(), await world.left(CALLS)) == (100, 5)
    assert (await world.reserve((TOKENS, "10"), (CALLS, "5"), key="a")).decision.allowed


async def test_keys_are_shared_with_consume(world: World) -> None:
    """A key stands for one request of a customer, whatever the verb."""
    first = await world.reserve((TOKENS, "10"), key="a")
    assert await world.reserve((TOKENS, "10"), key="a") == first
    world.follow()
    assert await world.reserve((TOKENS, "10"), key="a") == first
    with pytest.raises(KeyReused):
        await world.consume((TOKENS, "10"), key="a")
    with pytest.raises(KeyReused):
        await world.reserve((TOKENS, "10"), key="a", ttl_s=61)
    await world.consume((TOKENS, "1"), key="b")
    with pytest.raises(KeyReused):
        await world.reserve((TOKENS, "1"), key="b")
    assert await world.left() == 89


async def test_units_return_by_themselves_at_the_deadline(world: World) -> None:
    """Not a microsecond before, and a settle after it is refused."""
    reserved = await world.reserve((TOKENS, "100"), ttl_s=30)
    world.clock.set(world.clock.now_us() + 30_000_000 - 1)
    assert await world.left() == 0
    world.clock.set(world.clock.now_us() + 1)
    assert (await shown(world)).balance == 100 * UNIT, "looking does not wait for a decision"
    assert await world.left() == 100
    with pytest.raises(ReservationExpired):
        await world.settle(reserved, (TOKENS, "1"))
    await world.release(reserved)
    world.follow()
    assert await world.left() == 100
    assert world.sink.appended == 0


async def test_a_settle_is_made_once(world: World) -> None:
    """The same content gets the first answer, however often and late; other content is refused."""
    reserved = await world.reserve((TOKENS, "60"), ttl_s=30)
    first = await world.settle(reserved, (TOKENS, "20"))
    await world.consume((TOKENS, "5"))
    assert await world.settle(reserved, (TOKENS, "20")) == first
    world.follow()
    world.pass_time(3600)
    world.follow()
    assert await world.settle(reserved, (TOKENS, "20")) == first
    with pytest.raises(ReservationEnded):
        await world.settle(reserved, (TOKENS, "21"))
    with pytest.raises(ReservationEnded):
        await world.release(reserved)
    assert world.sink.appended == 2
    assert await world.left() == 75


async def test_a_released_reservation_cannot_be_settled(world: World) -> None:
    """It has ended."""
    reserved = await world.reserve((TOKENS, "60"))
    await world.release(reserved)
    with pytest.raises(ReservationEnded):
        await world.settle(reserved, (TOKENS, "1"))


async def test_above_the_hold_a_hard_limit_gives_only_what_is_left(world: World) -> None:
    """Denied, and still open; with what is left it settles, to zero."""
    reserved = await world.reserve((TOKENS, "60"))
    await world.consume((TOKENS, "30"))
    denied = await world.settle(reserved, (TOKENS, "70.000000001"))
    assert (denied.allowed, denied.items[0].reason) == (False, Reason.INSUFFICIENT)
    assert denied.items[0].balance == 10 * UNIT
    settled = await world.settle(reserved, (TOKENS, "70"))
    assert (settled.allowed, settled.items[0].balance) == (True, 0)
    world.follow()
    assert (await shown(world)).used == 100 * UNIT


async def test_above_the_hold_a_soft_limit_counts_overage(world: World) -> None:
    """Soft: allowed, and what is beyond shows as overage."""
    world.state(contract("k", soft(right())))
    world.follow()
    reserved = await world.reserve((TOKENS, "60"))
    assert (await world.settle(reserved, (TOKENS, "130"))).allowed
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.overage, seen.held) == (130 * UNIT, 30 * UNIT, 0)


async def test_the_hold_is_settled_even_in_overage(world: World) -> None:
    """What was reserved was sold: usage ingested meanwhile does not take it away."""
    reserved = await world.reserve((TOKENS, "60"))
    world.use("90")
    world.follow()
    assert (await world.settle(reserved, (TOKENS, "60"))).allowed
    world.follow()
    assert (await shown(world)).overage == 50 * UNIT


async def test_several_features_settle_together(world: World) -> None:
    """One denied item denies the settle; a feature that is not named was not used."""
    world.state(contract("k", right(), right(CALLS, "5")))
    world.follow()
    reserved = await world.reserve((TOKENS, "50"), (CALLS, "3"))
    assert not (await world.settle(reserved, (TOKENS, "10"), (CALLS, "6"))).allowed
    assert (await world.left(), await world.left(CALLS)) == (50, 2)
    assert (await world.settle(reserved, (CALLS, "4"))).allowed
    world.follow()
    assert (await world.left(), await world.left(CALLS)) == (100, 1)
    assert world.tail.records.filter(source="tallyman", type="call").height == 4


async def test_every_meter_counts_a_settle_once(world: World) -> None:
    """One event an item, at the time of the reserve; nothing used is no event."""
    reserved = await world.reserve((TOKENS, "50"))
    at = world.clock.now_us()
    world.pass_time(10)
    await world.settle(reserved, (TOKENS, "60"))
    [event] = world.tail.records.filter(source="tallyman", kind=RecordKind.EVENT).to_dicts()
    assert (to_micros(event["time"]), event["subject"]) == (at, "acme")
    empty = await world.reserve((TOKENS, "1"))
    assert (await world.settle(empty, (TOKENS, "0"))).allowed
    assert world.sink.appended == 1


async def test_a_reservation_over_a_reset_is_paid_by_the_month_it_was_made_in(
    world: World,
) -> None:
    """Held in November, settled in December: November pays the hold, December what exceeds it."""
    world.clock.set(to_micros(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)))
    reserved = await world.reserve((TOKENS, "100"), ttl_s=600)
    world.pass_time(120)
    assert await world.left() == 100
    await world.consume((TOKENS, "95"))
    assert not (await world.settle(reserved, (TOKENS, "106"))).allowed
    settled = await world.settle(reserved, (TOKENS, "103"))
    assert (settled.allowed, settled.items[0].balance) == (True, 2 * UNIT)
    world.follow()
    assert await world.left() == 2
    assert world.reader.recount() == []


async def test_a_hold_is_held_across_a_reset_where_the_grant_is(world: World) -> None:
    """A grant for the whole term: what November holds of it, December may not sell."""
    world.state(contract("k", right(amount="10"), right(amount="50", every_months=None)))
    world.follow()
    world.clock.set(to_micros(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)))
    reserved = await world.reserve((TOKENS, "60"), ttl_s=600)
    assert reserved.decision.allowed
    world.pass_time(120)
    assert await world.left() == 10
    seen = await shown(world)
    assert (seen.allowance, seen.used, seen.held, seen.balance) == (
        60 * UNIT,
        0,
        50 * UNIT,
        10 * UNIT,
    )
    assert not (await world.consume((TOKENS, "11"))).allowed
    await world.settle(reserved, (TOKENS, "35"))
    assert await world.left() == 35
    world.follow()
    assert await world.left() == 35
    assert world.reader.recount() == []


async def test_a_gateway_that_is_behind_decides_in_the_segment_others_are_in(world: World) -> None:
    """A clock that lags over a reset cannot sell the old month beside the new one."""
    world.state(contract("k", right(amount="10"), right(amount="50", every_months=None)))
    world.follow()
    world.clock.set(to_micros(datetime(2026, 12, 1, tzinfo=UTC)))
    assert (await world.consume((TOKENS, "55"))).allowed
    world.clock.set(to_micros(datetime(2026, 12, 1, tzinfo=UTC)) - 5_000)
    assert not (await world.consume((TOKENS, "6"))).allowed
    assert (await world.consume((TOKENS, "5"))).allowed


async def test_the_gateway_died_before_the_hold_was_durable(world: World) -> None:
    """A retry carries on with the same reservation; without one it lapses after 60 s of log."""
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.reserve((TOKENS, "100"), key="a", ttl_s=3600)
    world.sink.broken = None
    again = await world.reserve((TOKENS, "100"), key="a", ttl_s=3600)
    assert (again.decision.allowed, again.decision.items[0].balance) == (True, 0)
    await world.release(again)
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.reserve((TOKENS, "100"), key="b", ttl_s=3600)
    world.sink.broken = None
    assert await world.left() == 0
    world.pass_time(61)
    world.follow()
    await world.refresh()
    assert await world.left() == 100


async def test_the_gateway_died_before_the_settle_was_durable(world: World) -> None:
    """A retry settles with the same events; nothing is free before, nothing is lost after."""
    reserved = await world.reserve((TOKENS, "60"), ttl_s=3600)
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.settle(reserved, (TOKENS, "70"))
    world.sink.broken = None
    assert await world.left() == 30, "60 held, and 10 above it"
    with pytest.raises(ReservationEnded):
        await world.settle(reserved, (TOKENS, "10"))
    assert (await world.settle(reserved, (TOKENS, "70"))).allowed
    world.follow()
    assert await world.left() == 30
    assert world.sink.appended == 1


async def test_a_settle_that_never_became_durable_lapses(world: World) -> None:
    """Then the reservation is open again, until its own deadline."""
    reserved = await world.reserve((TOKENS, "60"), ttl_s=3600)
    world.follow()
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.settle(reserved, (TOKENS, "70"))
    world.sink.broken = None
    world.pass_time(61)
    world.follow()
    await world.refresh()
    assert await world.left() == 40
    assert (await world.settle(reserved, (TOKENS, "10"))).allowed
    world.follow()
    assert await world.left() == 90
    late = await world.reserve((TOKENS, "60"), ttl_s=70)
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.settle(late, (TOKENS, "70"))
    world.sink.broken = None
    world.pass_time(71)
    world.follow()
    await world.refresh()
    assert await world.left() == 90


async def test_open_reservations_survive_the_loss_of_the_ledger(world: World) -> None:
    """FLUSHALL: recovering, then the holds of the log again; deadlines, keys and ends as before."""
    kept = await world.reserve((TOKENS, "30"), key="a", ttl_s=600)
    settled = await world.reserve((TOKENS, "20"), ttl_s=600)
    first = await world.settle(settled, (TOKENS, "7"))
    released = await world.reserve((TOKENS, "10"), ttl_s=600)
    await world.release(released)
    expired = await world.reserve((TOKENS, "5"), ttl_s=30)
    world.pass_time(40)
    lose(world)
    denied = await world.reserve((TOKENS, "1"))
    assert denied.decision.items[0].reason is Reason.RECOVERING
    with pytest.raises(LedgerLost):
        await world.settle(kept, (TOKENS, "1"))
    with pytest.raises(LedgerLost):
        await world.release(kept)
    world.follow()
    await world.refresh()
    assert await world.left() == 63
    assert await world.reserve((TOKENS, "30"), key="a", ttl_s=600) == kept
    assert await world.settle(settled, (TOKENS, "7")) == first
    await world.release(released)
    with pytest.raises(ReservationExpired):
        await world.settle(expired, (TOKENS, "5"))
    assert (await world.settle(kept, (TOKENS, "93"))).allowed
    world.follow()
    assert await world.left() == 0
    assert world.reader.recount() == []


async def test_a_soft_reserve_goes_on_while_the_ledger_recovers(world: World) -> None:
    """It is in the log, and held as soon as the ledger is back."""
    world.state(contract("k", soft(right())))
    world.follow()
    lose(world)
    reserved = await world.reserve((TOKENS, "30"), ttl_s=600)
    assert reserved.decision.allowed
    world.follow()
    await world.refresh()
    assert await world.left() == 70
    assert (await world.settle(reserved, (TOKENS, "40"))).allowed
    world.follow()
    assert await world.left() == 60


async def test_the_reader_alone_ends_what_was_not_told(world: World) -> None:
    """Confirmations are lost: applying HOLD, SETTLE and RELEASE comes to the same."""
    ledger = world.ledger
    ledger.confirm = lambda *_: None
    ledger.conclude = lambda *_: None
    first = await world.reserve((TOKENS, "30"), ttl_s=600)
    second = await world.reserve((TOKENS, "30"), ttl_s=600)
    third = await world.reserve((TOKENS, "30"), ttl_s=100)
    world.follow()
    await world.settle(first, (TOKENS, "20"))
    await world.release(second)
    assert await world.left() == 10
    world.follow()
    assert await world.left() == 50
    world.pass_time(100)
    assert await world.left() == 80
    with pytest.raises(ReservationExpired):
        await world.settle(third, (TOKENS, "1"))


async def test_reservations_survive_a_change_of_the_contract(world: World) -> None:
    """They are filed anew with the usage, and settle as if nothing had happened."""
    reserved = await world.reserve((TOKENS, "30"), ttl_s=600)
    world.state(contract("k", right(every_months=3), start=date(2026, 10, 15)))
    world.follow()
    assert (await shown(world)).held == 30 * UNIT
    assert (await world.settle(reserved, (TOKENS, "31"))).allowed
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.held) == (31 * UNIT, 0)


async def test_a_contract_that_ended_still_settles_what_it_sold(world: World) -> None:
    """The hold is honoured, anything above it is denied as expired."""
    reserved = await world.reserve((TOKENS, "30"), ttl_s=3600)
    world.state(contract("k", right(), end=datetime(2026, 11, 1, 1, 30, tzinfo=UTC)))
    world.follow()
    world.pass_time(1900)
    denied = await world.settle(reserved, (TOKENS, "31"))
    assert (denied.allowed, denied.items[0].reason) == (False, Reason.EXPIRED)
    assert (await world.settle(reserved, (TOKENS, "30"))).allowed


async def test_wrong_reservations_are_named(world: World) -> None:
    """Unknown ones, foreign ones, features that were not reserved."""
    reserved = await world.reserve((TOKENS, "30"))
    with pytest.raises(NotFound):
        await world.settle("reserve-nothing", (TOKENS, "1"))
    with pytest.raises(NotFound):
        await world.release("reserve-nothing")
    with pytest.raises(NotFound):
        await world.settle(reserved, (TOKENS, "1"), customer="bolt")
    with pytest.raises(InvalidRequest):
        await world.settle(reserved, (CALLS, "1"))
    with pytest.raises(InvalidRequest):
        await world.reserve((TOKENS, "0"))


async def test_races_for_the_last_units_by_every_verb(world: World) -> None:
    """150 consumes and reserves at once for 100 units: 100 get one, settled or not."""
    consumed, reserved = await asyncio.gather(
        asyncio.gather(*(world.consume((TOKENS, "1")) for _ in range(75))),
        asyncio.gather(*(world.reserve((TOKENS, "1")) for _ in range(75))),
    )
    open_ones = [one for one in reserved if one.decision.allowed]
    assert sum(one.allowed for one in consumed) + len(open_ones) == 100
    settled = await asyncio.gather(*(world.settle(one, (TOKENS, "1")) for one in open_ones))
    assert all(one.allowed for one in settled)
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.held, seen.balance) == (100 * UNIT, 0, 0)


async def test_one_settle_of_many_wins(world: World) -> None:
    """Settles and a release of one reservation at once: one of them happens, once."""
    reserved = await world.reserve((TOKENS, "50"))
    tries = [world.settle(reserved, (TOKENS, str(n))) for n in range(1, 9)]
    answers = await asyncio.gather(*tries, world.release(reserved), return_exceptions=True)
    assert sum(isinstance(answer, ReservationEnded) for answer in answers) == 8
    world.follow()
    won = [n for n, answer in enumerate(answers[:-1], 1) if not isinstance(answer, Exception)]
    assert await world.left() == 100 - sum(won)


async def test_dimensions_of_the_reserve_are_those_of_the_settle(world: World) -> None:
    """Unless the settle says otherwise."""
    items = (replace(item(TOKENS, "5"), dimensions={"model": "gpt-4"}),)
    request = Reserve(customer=ACME, items=items, key="m", ttl_us=60_000_000)
    await world.settle(await world.decisions.reserve(request), (TOKENS, "4"))
    [event] = world.tail.records.filter(source="tallyman", kind=RecordKind.EVENT).to_dicts()
    assert '"model":{"name":"gpt-4"}' in event["data"]
