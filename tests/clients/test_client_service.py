"""The client against the real service: counted once, decided, and on the bill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pytest
from tallyman_client import (
    AsyncTallyman,
    Conflict,
    Options,
    Rejection,
    Tallyman,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

from tests.catalogs import tokens_document
from tests.e2e.harness import Service, running_service

CATALOG = tokens_document(value="data.tokens")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service of which only these tests know, with a catalog, in a January that stands still."""
    with running_service("--sandbox", "--now", "2026-01-20T12:00:00Z") as running:
        running.post("/v1/catalog", {"document": CATALOG})
        yield running


async def test_from_events_to_the_bill(service: Service) -> None:
    """Recorded, sent in bulk and as Arrow, twice: once on the bill; consumed from the rest."""
    rejected: list[Rejection] = []
    options = Options(batch_events_max=500, compress_bytes_min=1_000)
    row = {"type": "llm", "subject": "acme", "time": "2026-01-10T00:00:00Z"}
    with Tallyman(
        service.url, service.key, source="app", options=options, on_rejected=rejected.append
    ) as client:
        for number in range(1_200):
            client.record(**row, id=f"r{number}", data={"tokens": Decimal("0.25")})
        client.record(**row, id="bad", data={"tokens": "many"})
        client.flush()
        assert (client.stats().accepted, client.stats().rejected) == (1_200, 1)
        assert [(each.id, each.code) for each in rejected] == [("bad", "invalid_value")]
        bulk = [row | {"id": f"b{number}", "data": {"tokens": 1}} for number in range(100)]
        assert client.send_events(bulk).accepted == 100
        assert client.send_events(bulk).duplicates == 100
        assert client.post_arrow(arrow()).accepted == 50
        assert client.post_arrow(arrow()).duplicates == 50
        [line] = client.totals("2026-01", customer="acme")["items"]
        assert (line["quantity"], line["amount"]) == ("450", "4.50")
    await decide(service)


async def decide(service: Service) -> None:
    """What is left is 550; the same key takes once; a hard limit holds."""
    async with AsyncTallyman(service.url, service.key) as client:
        await applied(client, Decimal(450))
        assert await client.check("acme", {"tokens": 550})
        denied = await client.check("acme", {"tokens": 551})
        assert (denied.allowed, denied.items[0].reason) == (False, "insufficient")
        taken = await client.consume("acme", {"tokens": Decimal("50.5")}, key="k1")
        again = await client.consume("acme", {"tokens": Decimal("50.5")}, key="k1")
        assert taken == again
        assert taken.items[0].balance == Decimal("499.5")
        with pytest.raises(Conflict) as raised:
            await client.consume("acme", {"tokens": 1}, key="k1")
        assert raised.value.code == "key_reused"
        entitlement = await client.entitlement("acme", "tokens")
        assert (entitlement.allowance, entitlement.balance) == (Decimal(1000), Decimal("499.5"))
        assert [each.feature for each in await client.entitlements("acme")] == ["tokens"]


async def applied(client: AsyncTallyman, used: Decimal) -> None:
    """Wait until the balances have followed the log; the ledger may be busy meanwhile."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Unavailable, Unreachable):
                entitlement = await client.entitlement("acme", "tokens")
                if entitlement.used == used and entitlement.held == 0:
                    return
            await asyncio.sleep(0.05)


async def test_a_reservation_is_settled_or_released(service: Service) -> None:
    """What is held is not available; settled counts what was used, released nothing."""
    async with AsyncTallyman(service.url, service.key) as client:
        before = await client.entitlement("acme", "tokens")
        assert before.balance is not None
        assert before.used is not None
        held = await client.reserve("acme", {"tokens": 100}, ttl_s=60)
        assert held.reservation is not None
        assert held.items[0].balance == before.balance - 100
        assert await client.settle("acme", held.reservation, {"tokens": 40})
        held = await client.reserve("acme", {"tokens": 100}, ttl_s=60)
        assert held.reservation is not None
        await client.release("acme", held.reservation)
        await applied(client, before.used + 40)


def test_a_wrong_key_is_named(service: Service) -> None:
    """As the service says it."""
    with Tallyman(service.url, "wrong") as client, pytest.raises(Unauthenticated) as raised:
        client.check("acme", {"tokens": 1})
    assert raised.value.code == "unauthenticated"


def arrow() -> bytes:
    """Fifty events as an Arrow stream."""
    table = pa.table(
        {
            "id": [f"a{number}" for number in range(50)],
            "source": ["app"] * 50,
            "type": ["llm"] * 50,
            "subject": ["acme"] * 50,
            "time": ["2026-01-10T00:00:00Z"] * 50,
            "data.tokens": [1] * 50,
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
