"""Reads that see every write acknowledged before them.

The watermark is the smallest durable ``received_at`` over the nodes that count for it. A read
without ``as_of`` first has every live gateway of this machine write a heartbeat, which moves the
watermark past all that was acknowledged, and then waits until the facts it needs have got there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import structlog

from api.readers.base import Tail
from catalog.clock import Micros, to_rfc3339
from catalog.errors import InvalidRequest, Unavailable
from catalog.ids import NodeId, SpecId
from rating.ports import SpecPositions

log = structlog.get_logger(__name__)


class AsOfInFuture(InvalidRequest):
    """``as_of`` is later than the watermark: that moment is not complete yet."""

    code = "as_of_in_future"


class ReadersBehind(Unavailable):
    """The facts have not reached the moment asked for within the time allowed."""

    code = "readers_behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The moment to read at, and the watermark then."""

    as_of: Micros
    watermark: Micros


class Heartbeats(Protocol):
    """Asks nodes to write a heartbeat."""

    async def __call__(self) -> None:
        """Ask every live node there is; a silent one is left to show in the watermark."""
        ...


class SocketHeartbeats:
    """Heartbeats over ``run/<node>.sock``, all at once, each within ``timeout_s``.

    None is before ``newest``, the latest instant any log holds when they are asked for: a large
    body takes its node's instants ahead of the clock, and the others must not stay behind.
    """

    def __init__(
        self,
        run_directory: Path,
        *,
        newest: Callable[[], Micros] = lambda: Micros(0),
        timeout_s: float = 2.0,
    ) -> None:
        self._directory = run_directory
        self._newest = newest
        self._timeout_s = timeout_s
        self._clients: dict[Path, httpx.AsyncClient] = {}

    async def __call__(self) -> None:
        """Ask every gateway that has a socket; one that does not answer is logged."""
        paths = [p for p in sorted(self._directory.glob("*.sock")) if p.stem not in NO_NODES]
        newest = await asyncio.to_thread(self._newest)
        await asyncio.gather(*(self._ask(path, newest) for path in paths))

    async def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _ask(self, path: Path, newest: Micros) -> None:
        try:
            answer = await self._client(path).post(f"/internal/heartbeat/{newest}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            log.warning("heartbeat_failed", node=path.stem, error=str(error) or repr(error))

    def _client(self, path: Path) -> httpx.AsyncClient:
        if path not in self._clients:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            self._clients[path] = httpx.AsyncClient(
                transport=transport, base_url="http://node", timeout=self._timeout_s
            )
        return self._clients[path]


NO_NODES = frozenset({"worker", "valkey"})


class Counted:
    """Positions of facts as they count: the copies among them are known, too."""

    def __init__(self, copies: Callable[[Micros], bool], facts: SpecPositions) -> None:
        self._copies = copies
        self._facts = facts

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether copies received up to ``as_of`` were found, and facts hold what was found."""
        return self._copies(as_of) and self._facts.covered(specs, as_of=as_of)


class Freshness:
    """Decides the moment a read is made at, and waits until it can be.

    ``watermark_tails`` are the logs of registered, unretired nodes.
    """

    def __init__(
        self,
        *,
        watermark_tails: Callable[[], Mapping[NodeId, Tail]],
        positions: SpecPositions,
        heartbeats: Heartbeats,
        wait_s_max: float = 10.0,
    ) -> None:
        self._tails = watermark_tails
        self._positions = positions
        self._heartbeats = heartbeats
        self._wait_s_max = wait_s_max

    def watermark(self) -> Micros:
        """Everything received up to here is known; 0 while a node has never been heard of."""
        return min((tail.durable().received_at for tail in self._tails().values()), default=ZERO)

    async def settle(self, as_of: Micros | None, specs: Sequence[SpecId]) -> Settled:
        """Wait until facts of ``specs`` are complete up to ``as_of`` (default: the watermark).

        Raises:
            AsOfInFuture: ``as_of`` is later than the watermark.
            ReadersBehind: the facts did not get there in time.
        """
        watermark = await asyncio.to_thread(self.watermark)
        if as_of is None or as_of > watermark:
            await self._heartbeats()
            watermark = await asyncio.to_thread(self.watermark)
        if as_of is not None and as_of > watermark:
            raise AsOfInFuture(f"as_of is later than the watermark {to_rfc3339(watermark)}")
        moment = watermark if as_of is None else as_of
        await self._wait(moment, specs)
        return Settled(as_of=moment, watermark=watermark)

    async def _wait(self, as_of: Micros, specs: Sequence[SpecId]) -> None:
        deadline = time.monotonic() + self._wait_s_max
        pause_s = 0.002
        while not await asyncio.to_thread(self._positions.covered, specs, as_of=as_of):
            if time.monotonic() > deadline:
                raise ReadersBehind(f"facts up to {to_rfc3339(as_of)} are not all extracted yet")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)


ZERO = Micros(0)
