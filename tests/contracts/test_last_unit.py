"""Two hundred clients race for the last units: as many get them as there are, every round."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis

from catalog.ids import CustomerId
from entitlements.requests import Consume, Release, ReservationExpired, Reserve, Settle
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.valkey import ValkeyProcess
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import TOKENS, UNIT, World, catalog, contract, item, right

CLIENTS = 200
ONE = (item(TOKENS, "1"),)
SECOND = 1_000_000


@pytest.fixture
async def on_valkey(valkey: ValkeyProcess) -> AsyncIterator[World]:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    writer = RedisLedgerWriter(valkey.url)
    ledger = RedisLedger(Address.parse(valkey.url), timeout_s=10.0)
    await ledger.start()
    yield World(ledger=ledger, writer=writer, state=catalog())
    await ledger.close()
    writer.close()


class Race:
    """Rounds on one world: a customer and a balance of 1 to 3 each."""

    def __init__(self, world: World, rounds: int) -> None:
        self.world = world
        self.limits = {CustomerId(f"c{n}"): 1 + n % 3 for n in range(rounds)}
        world.catalog = replace(
            catalog(
                *(
                    contract(f"k-{name}", right(amount=str(limit)), customer=name)
                    for name, limit in self.limits.items()
                ),
                customers={name: (name,) for name in self.limits},
            ),
            revision=2,
        )

    async def run(self, seed: int) -> None:
        """Every round's race, then every deadline, then the books."""
        self.world.follow()
        await self.world.refresh()
        sold = {name: await self.round(name, seed) for name in self.limits}
        self.world.pass_time(120)
        self.world.follow()
        await self.world.refresh()
        accounts = self.world.writer.accounts(list(sold))
        for (name, units), account in zip(sold.items(), accounts, strict=True):
            assert account is not None
            assert sum(account.totals.values()) == units * UNIT, f"seed {seed}, {name}"
            shown = await self.world.check((TOKENS, "0"), customer=name)
            assert shown.items[0].balance == (self.limits[name] - units) * UNIT, name
        assert self.world.reader.recount() == []

    async def round(self, name: CustomerId, seed: int) -> int:
        """Units sold. At the first rush exactly as many get one as there are."""
        chance = random.Random(f"{seed} {name}")
        fates = [chance.choice(["consume", "settle", "release", "expire"]) for _ in range(CLIENTS)]
        got = await asyncio.gather(*(self.take(name, n, fate) for n, fate in enumerate(fates)))
        winners = [fate for fate, allowed in zip(fates, got, strict=True) if allowed]
        assert len(winners) >= self.limits[name], "refused while units were left"
        kept = [fate for fate in winners if fate != "release"]
        assert len(kept) <= self.limits[name], "oversold"
        return sum(fate in {"consume", "settle"} for fate in kept)

    async def take(self, name: CustomerId, number: int, fate: str) -> bool:
        key = f"{name}-{number}"
        if fate == "consume":
            asked = Consume(customer=name, items=ONE, key=key)
            return (await self.world.decisions.consume(asked)).allowed
        ttl = 60 * SECOND
        reserve = Reserve(customer=name, items=ONE, key=key, ttl_us=ttl)
        held = (await self.world.decisions.reserve(reserve)).reservation
        if held is None:
            return False
        if fate == "settle":
            settle = Settle(customer=name, reservation=held, items=ONE)
            assert (await self.world.reservations.settle(settle)).allowed
        elif fate == "release":
            await self.world.reservations.release(Release(customer=name, reservation=held))
        return True


async def test_as_many_win_as_there_are_units(on_valkey: World) -> None:
    """Thirty rounds of two hundred clients: consume, settle, release and expire mixed."""
    await Race(on_valkey, 30).run(seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_rounds_for_the_last_unit(on_valkey: World) -> None:
    """The same, a thousand times over."""
    for seed in range(10):
        on_valkey.writer._client.flushall()
        fresh = World(ledger=on_valkey.ledger, writer=on_valkey.writer, state=catalog())
        await Race(fresh, 100).run(seed=seed)


async def test_what_expired_can_be_had_again(on_valkey: World) -> None:
    """A unit that was left reserved is somebody's again at the deadline, and one client's only."""
    name = CustomerId("c0")
    race = Race(on_valkey, 1)
    on_valkey.follow()
    await on_valkey.refresh()
    assert await race.take(name, 1_000, "expire")
    got = await asyncio.gather(*(race.take(name, n, "consume") for n in range(CLIENTS)))
    assert not any(got)
    on_valkey.follow()
    on_valkey.pass_time(61)
    got = await asyncio.gather(*(race.take(name, n, "consume") for n in range(CLIENTS)))
    assert sum(got) == 1
    [name_of_it] = await on_valkey.ledger._call("KEYS", "tallyman:{c0}:reservation:*")
    with pytest.raises(ReservationExpired):
        await on_valkey.settle(name_of_it.rpartition(":")[2], (TOKENS, "1"), customer=name)
