"""The pipeline on the real log and index, across restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from catalog.clock import FixedClock
from catalog.ids import NodeId
from ingest.commit import Ingestor
from ingest.group import Outcome
from ingest.voids import VoidItem
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from tests.unit.ingest.fakes import NOW, checked, event


class Node:
    """A node's log, index and pipeline, for one life of its process."""

    def __init__(self, directory: Path) -> None:
        self.log = NodeLog.open(directory, node=NodeId("n1"), clock=FixedClock(NOW))
        self.index = DiskIdentityIndex.open(directory / "index", self.log)
        self.ingestor = Ingestor(
            log=self.log, index=self.index, reader=self.log, between=self.log.roll_if_due
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ingestor.close()
        self.index.close()
        self.log.close()


async def test_counted_once_across_restarts(tmp_path):
    """A resend after a restart is a duplicate, changed content a conflict, a void stays void."""
    async with Node(tmp_path) as node:
        bodies = [checked(event(id=f"e{n}"), event(id="shared", data={"n": 1})) for n in range(20)]
        told = await asyncio.gather(*map(node.ingestor.submit, bodies))
        assert sum(outcome.accepted for outcome in told) == 21
        item = VoidItem(index=0, source="s", id="e3", reason="")
        assert (await node.ingestor.void([item])).voided == 1
    async with Node(tmp_path) as node:
        told = await node.ingestor.submit(bodies[3])
        assert told == Outcome(accepted=0, duplicates=2, rejected=[])
        assert (await node.ingestor.void([item])).already_void == 1
        again = checked(event(id="shared", data={"n": 1.0}), event(id="e5", subject="else"))
        outcome = await node.ingestor.submit(again)
        assert (outcome.duplicates, [each.index for each in outcome.rejected]) == (1, [1])
        assert await node.ingestor.heartbeat() > NOW
        assert node.log.next_seq == 24
