"""Every example of docs/entitlements.md happens as it is printed, in the order of the page."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.application import create_app
from api.parts import Worker
from api.routes.grants import build_router
from catalog.grammar import parse_document
from storage.memory.ledger import MemoryLedger
from storage.sql.database import open_database
from storage.sql.grants import GrantStore
from tests.api.test_entitlements_hot import Edge
from tests.ledger_world import World, catalog, contract, right

PAGE = Path(__file__).parents[2] / "docs" / "entitlements.md"
VERBS = ("consume", "reserve", "settle", "release")


def examples(language: str) -> list[str]:
    """The page's code blocks of a language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[Edge, httpx.AsyncClient]]:
    """100 tokens at the gateway's edge, and the worker's grants."""
    ledger = MemoryLedger()
    world = World(ledger=ledger, writer=ledger, state=catalog(contract("k", right(amount="100"))))
    world.follow()
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    router = build_router(
        grants=GrantStore(database, world.clock), catalog=lambda: world.catalog, clock=world.clock
    )
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")
    headers = {"x-tallyman-scopes": "entitlements"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as http:
        yield Edge(world), http
    database.close()


async def test_the_documented_examples_are_what_happens(
    api: tuple[Edge, httpx.AsyncClient],
) -> None:
    """Consume, reserve, settle, release, grant: each request gets the answer printed under it."""
    edge, http = api
    blocks = [json.loads(block) for block in examples("json")]
    pairs = list(zip(blocks[::2], blocks[1::2], strict=True))
    assert len(pairs) == len(VERBS) + 1
    reservation = ""
    for verb, (asked, answered) in zip(VERBS, pairs, strict=False):
        if verb == "release":  # the page releases another one than it settles
            again = pairs[1][0] | {"key": "another"}
            reservation = (await edge.post("reserve", again)).json()["reservation"]
        told = (await edge.post(verb, _named(asked, reservation))).json()
        reservation = told.get("reservation", reservation)
        assert told == _named(answered, reservation)
    asked, answered = pairs[-1]
    assert (await http.post("/v1/customers/acme/grants", json=asked)).json() == answered


def _named(body: dict[str, Any], reservation: str) -> dict[str, Any]:
    """The example with the reservation's real id."""
    return body | {"reservation": reservation} if "reservation" in body else body


def test_the_documented_catalog_is_valid() -> None:
    """The YAML of the page parses, with the meter it supposes."""
    [text] = examples("yaml")
    tree = yaml.load(text, Loader=yaml.BaseLoader)
    tree["meters"] = {"tokens": {"event_type": "llm", "aggregation": "sum", "value": "data.n"}}
    tree["pricebooks"]["pro"] |= {
        "currency": "USD",
        "invoicing": {"timing": "arrears", "every_months": "1"},
        "prices": [],
    }
    parse_document(tree)
