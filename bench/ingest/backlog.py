"""How far the worker's readers are behind the log, asked over the worker's own socket."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from api.service import worker_socket
from bench.gate import BenchFailed
from bench.ingest.servers import NODE, Tallyman
from catalog.ids import NodeId
from storage.log.follower import LogFollower

READERS = ("facts", "clickhouse", "ledger")
_POSITION = re.compile(
    rf'^tallyman_reader_position{{(?=[^}}]*node="{NODE}")[^}}]*reader="(\w+)"[^}}]*}} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Asks how far the readers are."""

    client: httpx.Client
    follower: LogFollower

    def positions(self) -> dict[str, int]:
        """The last record each reader has applied."""
        text = self.client.get("/internal/metrics").text
        found = {name: int(float(value)) for name, value in _POSITION.findall(text)}
        return {name: found.get(name, 0) for name in READERS}

    def records(self) -> dict[str, int]:
        """Durable records each reader has not applied."""
        durable = self.follower.durable().seq
        return {name: max(0, durable - place) for name, place in self.positions().items()}

    def wait_until_drained(self, *, slack: int = 10, within_s: float = 600) -> float:
        """Wait until all readers are level with the log, heartbeats aside; seconds it took.

        Raises:
            BenchFailed: they are not in time.
        """
        target = self.follower.durable().seq - slack
        began_s = time.monotonic()
        while min(self.positions().values()) < target:
            if time.monotonic() - began_s > within_s:
                raise BenchFailed(f"the readers are behind: {self.records()}")
            time.sleep(0.05)
        return time.monotonic() - began_s


@contextmanager
def watched_backlog(tallyman: Tallyman) -> Iterator[Backlog]:
    """A backlog to ask while ``tallyman`` runs with its worker."""
    transport = httpx.HTTPTransport(uds=str(worker_socket(tallyman.data)))
    with httpx.Client(transport=transport, base_url="http://worker", timeout=60) as client:
        follower = LogFollower(tallyman.node_directory, NodeId(NODE))
        try:
            yield Backlog(client=client, follower=follower)
        finally:
            follower.close()
