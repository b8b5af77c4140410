"""The routes of verify and rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.application import create_app
from api.checks.report import Check, Report
from api.parts import Worker
from api.readers.facts import FactsReader
from api.rebuild import Rebuildable
from api.routes.operations import build_router
from catalog.ids import NodeId, Seq
from storage.parquet.facts import ParquetFacts
from tests.logs_in_memory import MemoryTail, event, spec, specs

ADMIN = {"x-tallyman-key-id": "k", "x-tallyman-scopes": "admin"}
WELL = Check.well("facts", "facts", NodeId("n1"), "5 rows")


class World:
    """A facts reader that runs, behind the routes."""

    def __init__(self, directory: Path) -> None:
        self.checks = [WELL]
        tail = MemoryTail()
        tail.append(event(), event())
        self.reader = FactsReader(
            tails=lambda: {tail.node: tail},
            specs=lambda: specs(spec()),
            facts=ParquetFacts(directory),
        )
        stores = {"facts": Rebuildable(reader=self.reader, drop=self.drop)}
        self.drops = 0
        router = build_router(verify=lambda: Report(checks=self.checks), stores=stores)
        self.app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")

    def drop(self) -> None:
        """Count the drop, then do it."""
        self.drops += 1
        self.reader.drop()

    async def level(self) -> dict:
        """The store's state once all is applied."""
        for _ in range(500):
            answer = await self.client.get("/v1/admin/rebuild", headers=ADMIN)
            [state] = answer.json()["stores"]
            if state["level"]:
                return state
            await asyncio.sleep(0.01)
        raise AssertionError("never level")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh world whose reader runs."""
    made = World(tmp_path)
    made.reader.start()
    transport = httpx.ASGITransport(app=made.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        made.client = client
        yield made
    made.reader.stop()


async def test_verify_answers_with_the_report(world: World):
    """Every check is listed, and the first difference is named by store, node and seq."""
    world.checks.append(WELL.differs(Seq(7), "record 7 is missing"))
    answer = await world.client.post("/v1/admin/verify", headers=ADMIN)
    assert answer.status_code == 200
    report = answer.json()
    assert not report["ok"]
    assert [check["status"] for check in report["checks"]] == ["ok", "different"]
    first = {"check": "facts", "store": "facts", "node": "n1", "seq": 7}
    assert first == report["checks"][1]["first_difference"]


async def test_rebuild_drops_and_tells_how_far_it_is(world: World):
    """The reader replays by itself, and the progress ends level."""
    await world.level()
    answer = await world.client.post("/v1/admin/rebuild", headers=ADMIN, json={"stores": ["facts"]})
    assert (answer.status_code, world.drops) == (202, 1)
    state = await world.level()
    assert state == {"store": "facts", "applied": 2, "durable": 2, "failure": None, "level": True}


@pytest.mark.parametrize("body", [{"stores": ["factz"]}, {"stores": []}, {"store": "facts"}, {}])
async def test_what_is_not_a_store_drops_nothing(world: World, body: dict):
    """A typo is 422 and leaves everything as it is."""
    answer = await world.client.post("/v1/admin/rebuild", headers=ADMIN, json=body)
    assert (answer.status_code, world.drops) == (422, 0)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "verify"), ("POST", "rebuild"), ("GET", "rebuild")]
)
async def test_only_admins_may(world: World, method: str, path: str):
    """A key that may read everything may not drop anything."""
    headers = ADMIN | {"x-tallyman-scopes": "read catalog finance".replace(" ", ",")}
    answer = await world.client.request(method, f"/v1/admin/{path}", headers=headers)
    assert answer.status_code == 403
