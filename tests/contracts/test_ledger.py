"""One behaviour, two ledgers: the memory reference and a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.clock import to_micros
from catalog.errors import InvalidRequest, NotFound
from catalog.ids import CustomerId, FeatureId
from entitlements.balances import balance_of
from entitlements.ports import LedgerUnavailable
from entitlements.requests import KeyReused, Reason
from entitlements.usage import NotConsumable
from storage.memory.ledger import MemoryLedger
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from tests.ledger_world import (
    ACME,
    CALLS,
    PLAN,
    SEATS,
    START,
    TOKENS,
    UNIT,
    World,
    catalog,
    contract,
    lose,
    right,
    shown,
    soft,
)


async def test_consume_takes_from_the_allowance_and_stops_at_zero(world: World) -> None:
    """A hard limit lets the last unit go and not one billionth more."""
    first = await world.consume((TOKENS, "99.999999999"))
    assert (first.allowed, first.items[0].balance) == (True, 1)
    over = await world.consume((TOKENS, "0.000000002"))
    assert (over.allowed, over.items[0].balance) == (False, 1)
    assert over.items[0].reason is Reason.INSUFFICIENT
    assert (await world.consume((TOKENS, "0.000000001"))).items[0].balance == 0


async def test_the_reader_turns_the_hold_into_usage_once(world: World) -> None:
    """Held before the event is applied, used after it, and the balance never moves."""
    await world.consume((TOKENS, "30"))
    before = await shown(world)
    assert (before.used, before.held, before.balance) == (0, 30 * UNIT, 70 * UNIT)
    world.follow()
    after = await shown(world)
    assert (after.used, after.held, after.balance) == (30 * UNIT, 0, 70 * UNIT)
    assert world.reader.recount() == []


async def test_a_retry_gets_the_first_answer_and_records_nothing(world: World) -> None:
    """Same key, same request: also after the event was applied, and whatever happened since."""
    first = await world.consume((TOKENS, "10"), key="a")
    await world.consume((TOKENS, "50"))
    assert await world.consume((TOKENS, "10"), key="a") == first
    world.follow()
    assert await world.consume((TOKENS, "10"), key="a") == first
    assert world.sink.appended == 2
    assert await world.left() == Decimal(40)


async def test_a_key_with_other_content_is_refused(world: World) -> None:
    """A key stands for one request: other amounts or features under it are a conflict."""
    await world.consume((TOKENS, "10"), key="a")
    with pytest.raises(KeyReused):
        await world.consume((TOKENS, "11"), key="a")


async def test_a_key_is_free_again_after_a_day(world: World) -> None:
    """24 hours later the key names a new request, and the log takes it for one."""
    await world.consume((TOKENS, "10"), key="a")
    world.follow()
    world.clock.set(world.clock.now_us() + 24 * 3600 * 1_000_000)
    second = await world.consume((TOKENS, "20"), key="a")
    world.follow()
    assert second.allowed
    assert await world.left() == Decimal(70)


async def test_a_denial_leaves_the_key_free(world: World) -> None:
    """What was denied is asked anew: after the allowance grew, the same key is allowed."""
    assert not (await world.consume((TOKENS, "150"), key="a")).allowed
    world.state(contract("k", right(amount="200")))
    world.follow()
    assert (await world.consume((TOKENS, "150"), key="a")).allowed


async def test_several_features_are_all_or_nothing(world: World) -> None:
    """One denied item denies the request, and nothing of the others is taken."""
    world.state(contract("k", right(), right(CALLS, "5")))
    world.follow()
    denied = await world.consume((TOKENS, "10"), (CALLS, "6"))
    assert [i.allowed for i in denied.items] == [True, False]
    assert [i.balance for i in denied.items] == [100 * UNIT, 5 * UNIT]
    assert (await world.consume((TOKENS, "10"), (CALLS, "5"))).allowed
    world.follow()
    assert (await world.left(), await world.left(CALLS)) == (90, 0)


async def test_one_feature_named_twice_counts_twice(world: World) -> None:
    """Items of one feature add up before the limit is compared."""
    assert not (await world.consume((TOKENS, "60"), (TOKENS, "60"))).allowed
    assert (await world.consume((TOKENS, "60"), (TOKENS, "40"))).allowed
    assert await world.left() == 0


async def test_soft_limits_pass_and_count_overage(world: World) -> None:
    """A soft allowance lets through what exceeds it and shows by how much."""
    world.state(contract("k", soft(right(amount="10"))))
    world.follow()
    assert (await world.consume((TOKENS, "25"))).allowed
    world.follow()
    seen = await shown(world)
    assert (seen.balance, seen.overage, seen.has_access) == (0, 15 * UNIT, True)


async def test_unlimited_has_no_balance(world: World) -> None:
    """Unlimited is null, never zero."""
    world.state(contract("k", right(amount=None, unlimited=True)))
    world.follow()
    answer = await world.consume((TOKENS, "123456"))
    assert (answer.allowed, answer.items[0].balance) == (True, None)
    world.follow()
    seen = await shown(world)
    assert (seen.allowance, seen.balance, seen.overage) == (None, None, None)
    assert seen.used == 123456 * UNIT


async def test_boolean_and_static_features_are_decided_by_the_catalog(world: World) -> None:
    """They are there or not; nothing of them can be consumed."""
    world.state(
        contract(
            "k",
            right(SEATS, None, value="true", every_months=None),
            right(PLAN, None, value="gold", every_months=None),
        )
    )
    world.follow()
    assert (await world.check((SEATS, "1"), (PLAN, "1"))).allowed
    with pytest.raises(NotConsumable):
        await world.consume((SEATS, "1"))
    seen = balance_of(world.schedules(), ACME, PLAN, account=None, now=world.clock.now_us())
    assert (seen.has_access, seen.value) == (True, "gold")


async def test_without_a_contract_there_is_no_entitlement(world: World) -> None:
    """The reason tells never from no longer."""
    for customer in ("bolt", "nobody"):
        never = await world.check((TOKENS, "1"), customer=CustomerId(customer))
        assert (never.allowed, never.items[0].reason) == (False, Reason.NO_ENTITLEMENT)
    world.state(contract("k", right(), end=date(2026, 11, 1) + timedelta(days=5)))
    world.follow()
    world.clock.set(to_micros(START + timedelta(days=6)))
    ended = await world.consume((TOKENS, "1"))
    assert (ended.allowed, ended.items[0].reason) == (False, Reason.EXPIRED)


async def test_wrong_requests_are_named(world: World) -> None:
    """Unknown things, zero, and meters that do not add up are errors, not denials."""
    with pytest.raises(NotFound):
        await world.consume((TOKENS, "1"), customer=CustomerId("nobody"))
    with pytest.raises(NotFound):
        await world.check((FeatureId("nothing"), "1"), customer=CustomerId("nobody"))
    with pytest.raises(NotFound):
        await world.check((FeatureId("nothing"), "1"))
    with pytest.raises(InvalidRequest):
        await world.consume((TOKENS, "0"))
    with pytest.raises(NotConsumable):
        await world.consume((FeatureId("peak"), "1"))
    world.state(contract("k", right(), right(CALLS, "5")))
    with pytest.raises(InvalidRequest):
        await world.consume((CALLS, "1.5"))
    with pytest.raises(InvalidRequest):
        await world.consume((TOKENS, "1"), subject="bolt")


async def test_ingested_usage_always_counts(world: World) -> None:
    """A hard limit gates decisions, not facts: usage may drive the balance into overage."""
    world.use("130.5")
    world.follow()
    seen = await shown(world)
    assert (seen.balance, seen.overage, seen.has_access) == (0, 30_500_000_000, False)
    assert not (await world.consume((TOKENS, "0.1"))).allowed


async def test_voids_give_back(world: World) -> None:
    """A void in the same stretch or a later one takes the event out of the balance."""
    near = world.use("10")
    world.void(near)
    far = world.use("20")
    world.follow()
    assert await world.left() == Decimal(80)
    world.void(far)
    world.follow()
    assert await world.left() == Decimal(100)


async def test_allowances_reset_and_late_events_count_where_they_belong(world: World) -> None:
    """December opens whole; an event of November does not touch it."""
    world.use("90")
    world.follow()
    world.clock.set(to_micros(datetime(2026, 12, 1, tzinfo=UTC)))
    assert await world.left() == Decimal(100)
    world.use("50", at=datetime(2026, 11, 30, tzinfo=UTC))
    world.follow()
    assert await world.left() == Decimal(100)
    assert world.reader.recount() == []


async def test_a_grant_for_the_whole_term_outlives_the_month(world: World) -> None:
    """The monthly allowance burns first; late usage in an earlier month moves what is left."""
    world.state(contract("k", right(amount="10"), right(amount="50", every_months=None)))
    world.use("25")
    world.follow()
    world.clock.set(to_micros(datetime(2026, 12, 2, tzinfo=UTC)))
    assert await world.left() == Decimal(45)
    world.use("5", at=datetime(2026, 11, 30, tzinfo=UTC))
    world.follow()
    assert await world.left() == Decimal(40)
    assert (await world.consume((TOKENS, "40"))).allowed
    assert not (await world.consume((TOKENS, "1"))).allowed


async def test_rollover_carries_up_to_its_maximum(world: World) -> None:
    """What is left of November is there in December, up to the maximum."""
    world.state(contract("k", right(amount="10", rollover_max=Decimal(4))))
    world.use("3")
    world.follow()
    world.clock.set(to_micros(datetime(2026, 12, 2, tzinfo=UTC)))
    assert await world.left() == Decimal(14)
    world.use("5", at=datetime(2026, 11, 30, tzinfo=UTC))
    world.follow()
    assert await world.left() == Decimal(12)


async def test_several_contracts_add_up(world: World) -> None:
    """Allowances of one feature under two contracts are one balance."""
    world.state(contract("k", right()), contract("extra", right(amount="11")))
    world.follow()
    assert await world.left() == Decimal(111)


async def test_a_contract_that_starts_in_the_past_finds_its_usage(world: World) -> None:
    """A contract recorded late is charged with what was used since its start."""
    world.state(contract("k", right()), contract("b", right(), customer="bolt"))
    bolt = CustomerId("bolt")
    world.use("30", subject="bolt")
    world.follow()
    assert (await shown(world, customer=bolt)).used == 30 * UNIT


async def test_a_subject_that_moves_takes_its_usage_along(world: World) -> None:
    """Claims decide whose usage it is: after they change both balances are as if always so."""
    world.state(
        contract("k", right()),
        contract("b", right(), customer="bolt"),
        customers={"acme": ("acme", "team"), "bolt": ("bolt",)},
    )
    world.use("30", subject="team")
    world.follow()
    assert await world.left() == Decimal(70)
    world.state(
        contract("k", right()),
        contract("b", right(), customer="bolt"),
        customers={"acme": ("acme",), "bolt": ("bolt", "team")},
    )
    world.follow()
    assert await world.left() == Decimal(100)
    assert (await shown(world, customer=CustomerId("bolt"))).used == 30 * UNIT
    assert world.reader.recount() == []


async def test_open_holds_survive_a_change_of_schedule(world: World) -> None:
    """A hold is filed anew with the usage, and settles as if nothing had happened."""
    await world.consume((TOKENS, "30"))
    world.state(contract("k", right(every_months=3), start=date(2026, 10, 15)))
    worked = world.reader._follow_catalog()
    assert worked
    seen = await shown(world)
    assert (seen.held, seen.balance) == (30 * UNIT, 70 * UNIT)
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.held, seen.balance) == (30 * UNIT, 0, 70 * UNIT)


async def test_a_hold_without_its_event_lapses_when_the_log_has_passed_it(world: World) -> None:
    """The gateway died between script and append: after 60 s of log the units are free again."""
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.consume((TOKENS, "100"), key="a")
    world.sink.broken = None
    world.clock.set(world.clock.now_us() + 61 * 1_000_000)
    await world.refresh()
    assert await world.left() == 0, "the log has not been read that far: the event may be in it"
    world.heartbeat()
    world.follow()
    await world.refresh()
    assert await world.left() == Decimal(100)
    retried = await world.consume((TOKENS, "60"), key="b")
    assert retried.allowed
    assert not (await world.consume((TOKENS, "100"), key="a")).allowed


async def test_a_retry_after_the_append_failed_records_the_same_event(world: World) -> None:
    """The gateway died before its event: the retry finds the hold and records what it said."""
    world.sink.broken = ConnectionError("killed")
    with pytest.raises(ConnectionError):
        await world.consume((TOKENS, "40"), key="a")
    world.sink.broken = None
    answer = await world.consume((TOKENS, "40"), key="a")
    world.follow()
    assert (answer.allowed, answer.items[0].balance) == (True, 60 * UNIT)
    assert await world.left() == Decimal(60)


async def test_after_a_loss_hard_limits_deny_until_the_log_is_applied(world: World) -> None:
    """FLUSHALL: recovering, then every balance and every key exactly as before."""
    first = await world.consume((TOKENS, "30"), key="a")
    world.use("5.5")
    world.follow()
    lose(world)
    denied = await world.consume((TOKENS, "1"))
    assert (denied.allowed, denied.items[0].reason) == (False, Reason.RECOVERING)
    world.follow()
    await world.refresh()
    assert await world.left() == Decimal("64.5")
    assert await world.consume((TOKENS, "30"), key="a") == first
    with pytest.raises(KeyReused):
        await world.consume((TOKENS, "31"), key="a")
    assert world.reader.recount() == []


async def test_after_a_loss_soft_limits_go_on(world: World) -> None:
    """Soft features are decided without the ledger; the log counts them, a retry only once."""
    world.state(contract("k", soft(right())))
    world.follow()
    lose(world)
    assert (await world.consume((TOKENS, "30"), key="a")).allowed
    assert (await world.consume((TOKENS, "30"), key="a")).allowed
    world.follow()
    await world.refresh()
    assert await world.left() == Decimal(70)


async def test_a_restarted_reader_applies_nothing_twice(world: World) -> None:
    """Killed between applying and publishing, with other batch boundaries afterwards."""
    for _ in range(5):
        world.use("1")
    world.follow()
    for _ in range(5):
        world.use("2")
    world.reader._publish = lambda **_: None
    world.follow()
    world.use("3")
    world.use("4", subject="bolt")
    world.reader = world.new_reader()
    world.follow()
    assert await world.left() == Decimal(100 - 5 - 10 - 3)
    assert world.reader.recount() == []


async def test_recount_names_what_differs(world: World) -> None:
    """A total that was tampered with is found, with both numbers."""
    world.use("7")
    world.follow()
    world.writer.apply(
        [_stray(world, 2 * UNIT)], node=world.tail.node, after=world.tail.durable().seq, upto=99
    )
    [found] = world.reader.recount()
    assert (found.customer, found.feature) == (ACME, TOKENS)
    assert (found.ledger, found.log) == (9 * UNIT, 7 * UNIT)


def _stray(world: World, change: int):
    from entitlements.ports import AccountUsage

    segment = world.schedules().of(ACME)[TOKENS].segment_at(world.clock.now_us())
    return AccountUsage(customer=ACME, deltas=[(TOKENS, segment.start, change)])


async def test_amounts_beyond_doubles_are_exact(world: World) -> None:
    """10^17 units to the billionth: sums past 2^53 lose nothing."""
    world.state(contract("k", right(amount="99999999999999999.999999999")))
    world.use("99999999999999999")
    world.follow()
    assert (await shown(world)).balance == 999_999_999
    assert (await world.consume((TOKENS, "0.999999998"))).items[0].balance == 1
    world.use("-12345678901234567.000000001")
    world.follow()
    assert (await shown(world)).balance == 12345678901234567_000000001 + 1


async def test_the_last_units_are_never_oversold_nor_withheld(world: World) -> None:
    """200 at once for 137 units: exactly 137 get one."""
    world.state(contract("k", right(amount="137")))
    world.follow()
    answers = await asyncio.gather(*(world.consume((TOKENS, "1")) for _ in range(200)))
    assert sum(answer.allowed for answer in answers) == 137
    world.follow()
    seen = await shown(world)
    assert (seen.used, seen.held, seen.balance) == (137 * UNIT, 0, 0)


async def test_concurrent_retries_of_one_key_count_once(world: World) -> None:
    """Fifty copies of one request in flight at once: one event, one answer."""
    answers = await asyncio.gather(*(world.consume((TOKENS, "10"), key="a") for _ in range(50)))
    world.follow()
    assert {answer.allowed for answer in answers} == {True}
    assert len(set(answers)) == 1
    assert await world.left() == Decimal(90)


async def test_without_a_server_every_decision_is_a_prompt_denial() -> None:
    """Nobody listens: denied as unavailable within 50 ms, check and consume alike."""
    ledger = RedisLedger(Address(path="/nonexistent/v.sock"))
    await ledger.start()
    world = World(ledger=ledger, writer=MemoryLedger(), state=catalog(contract("k", right())))
    loop = asyncio.get_running_loop()
    began = loop.time()
    denied = await world.consume((TOKENS, "1"))
    assert loop.time() - began < 0.05
    assert denied.items[0].reason is Reason.LEDGER_UNAVAILABLE
    with pytest.raises(LedgerUnavailable):
        await ledger.account(ACME, now=0)
    await ledger.close()
