"""The demo's race: many clients, one hard limit, and not a unit too much or too little."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import typer
from rich.console import Console

from api.cli.client import ApiClient
from api.cli.output import money
from catalog.errors import Unavailable

CLIENTS = 200
LIMIT = 100_000
TAKE_MAX = 500
TRIES_MAX = 200
UNDECIDED = {"ledger_unavailable", "recovering"}
ENTITLEMENTS = "/v1/customers/racer/entitlements"
CATALOG: dict[str, Any] = {
    "meters": {"race": {"event_type": "demo.race", "aggregation": "sum", "value": "data.tokens"}},
    "features": {"race": {"kind": "metered", "meter": "race"}},
    "pricebooks": {
        "race": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [],
            "entitlements": [{"feature": "race", "amount": str(LIMIT), "limit": "hard"}],
        }
    },
    "customers": {"racer": {"name": "Racer", "subjects": ["racer"]}},
    "contracts": {"racer": {"customer": "racer", "pricebook": "race", "start": "2026-01-01"}},
}


@dataclass(slots=True)
class Tally:
    """What the clients were told. ``wrongly`` counts denials of what was left."""

    decisions: int = 0
    taken: int = 0
    wrongly: int = 0


def show_race(to: Console, client: ApiClient) -> None:
    """Race, print what came of it, and fail the demo if a unit was sold twice or held back.

    Raises:
        typer.Exit: the books do not agree to the unit.
    """
    client.post("/v1/catalog", {"document": CATALOG})
    begun = time.monotonic()
    tally = asyncio.run(_race(client))
    seconds = time.monotonic() - begun
    used = _used(client)
    exact = tally.taken == LIMIT == used and not tally.wrongly
    verdict = "[green]none oversold[/green]" if exact else "[red]NOT EXACT[/red]"
    to.print(
        f"\nA race: {CLIENTS} clients for {money(str(LIMIT))} tokens, {tally.decisions:,} durable "
        f"decisions in {seconds:.1f} s:\n  {tally.taken:,} sold, {used:,} counted, {verdict}, "
        f"{tally.wrongly} refused while units were left."
    )
    if not exact:
        raise typer.Exit(1)


async def _race(client: ApiClient) -> Tally:
    tally = Tally()
    racers = client.many(CLIENTS)
    try:
        await asyncio.gather(*(_take(http, n, tally) for n, http in enumerate(racers)))
    finally:
        await asyncio.gather(*(http.aclose() for http in racers))
    return tally


async def _take(http: httpx.AsyncClient, number: int, tally: Tally) -> None:
    """Take some at a time; when that is more than is left, what is left; until nothing is."""
    chance = random.Random(number)  # noqa: S311 - the same race every time
    amount, turn = chance.randint(1, TAKE_MAX), 0
    while amount:
        [item] = (await _decided(http, f"{number}-{turn}", amount))["items"]
        tally.decisions += 1
        left = int(Decimal(item["balance"]))
        if item["allowed"]:
            tally.taken += amount
            amount = chance.randint(1, TAKE_MAX)
        else:
            tally.wrongly += left >= amount
            amount = left
        turn += 1


async def _decided(http: httpx.AsyncClient, key: str, amount: int) -> dict[str, Any]:
    """Ask under one key until there is a decision: a busy machine may be too slow for one."""
    body = {"items": [{"feature": "race", "amount": amount}], "key": key}
    for _ in range(TRIES_MAX):
        answer = await http.post(f"{ENTITLEMENTS}/consume", json=body)
        decision: dict[str, Any] = answer.json()
        reasons = {item["reason"] for item in decision.get("items", ())}
        if answer.is_success and reasons.isdisjoint(UNDECIDED):
            return decision
        await asyncio.sleep(0.02)
    raise Unavailable("the ledger did not decide")


def _used(client: ApiClient) -> int:
    """What the balance says was used, once the reader has applied every event."""
    for _ in range(TRIES_MAX):
        shown = client.get(f"{ENTITLEMENTS}/race")
        if shown["held"] == "0":
            return int(Decimal(shown["used"]))
        time.sleep(0.02)
    raise Unavailable("the balance never settled")
