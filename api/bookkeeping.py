"""Closing and issuing as a service: settle, look at the books, decide, write; or see it was done.

What is decided is kept only if nothing was written to the books in between, so two that run at
once, in any number of processes, come to one result: the second sees what the first wrote.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from api.freshness import ReadersBehind
from api.totals import Catalogs, Freshness, Settled
from catalog.clock import Clock, Micros, to_rfc3339
from catalog.errors import Conflict
from catalog.ids import NodeId
from catalog.snapshot import Catalog
from invoicing.ports import Books, BooksChanged, Entry
from invoicing.view import BooksView, Scope, View
from rating.engine import ENGINE
from rating.plan import specs_needed

ATTEMPTS_MAX = 20
HEARD_S_MAX = 5.0
PAUSE_S = 0.05

T = TypeVar("T")


class NodeBehind(Conflict):
    """A registered node is silent: what it holds is not known, and nothing can be closed."""

    code = "node_behind"


class Nodes(Protocol):
    """What is known of the nodes that the watermark waits for."""

    def __call__(self) -> Mapping[NodeId, Micros]:
        """The last instant each is durable to; 0 for one whose log was never seen."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every piece of bookkeeping needs. ``writing`` lets this process do one at a time."""

    books: Books
    view: BooksView
    catalogs: Catalogs
    freshness: Freshness
    clock: Clock
    answered: Callable[[], Micros]
    nodes: Nodes
    writing: asyncio.Lock

    async def settle(self) -> Settled:
        """Wait until everything received before this call is known, from every node.

        Raises:
            NodeBehind: a node has not been heard of since.
            ReadersBehind: the facts did not get there in time.
        """
        began, deadline = self.clock.now_us(), time.monotonic() + HEARD_S_MAX
        while True:
            settled = await self.freshness.settle(None, specs_needed(self.catalogs.current()))
            heard = await asyncio.to_thread(self.nodes)
            silent = {node: at for node, at in heard.items() if at < began}
            if not silent and settled.watermark >= began:
                return settled
            if time.monotonic() > deadline:
                raise _behind(silent)
            await asyncio.sleep(PAUSE_S)

    async def question(self, as_of: Micros | None = None) -> Settled:
        """The instant of a mere question: a silent node shows in its watermark, and no more."""
        return await self.freshness.settle(as_of, specs_needed(self.catalogs.current()))

    async def look(self, scope: Scope) -> tuple[View, Catalog]:
        """The books in ``scope``, and the catalog they are read with."""
        view = await asyncio.to_thread(self.view.view, scope)
        return view, await asyncio.to_thread(self.catalogs.as_of, scope.as_of)

    def entry(self, settled: Settled, *, actor: str | None, closed_by: str | None = None) -> Entry:
        """What is recorded with a writing; take it before looking at what is decided on."""
        return Entry(
            mark=self.books.mark(),
            as_of=settled.as_of,
            engine=ENGINE,
            after=self.answered(),
            actor=actor,
            closed_by=closed_by,
        )

    async def decide(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make ``attempt``, again where someone else wrote in between.

        Raises:
            BooksChanged: that happened too often.
        """
        async with self.writing:
            for _ in range(ATTEMPTS_MAX - 1):
                try:
                    return await attempt()
                except BooksChanged:
                    await asyncio.sleep(PAUSE_S)
            return await attempt()


def _behind(silent: Mapping[NodeId, Micros]) -> Conflict | ReadersBehind:
    if not silent:
        return NodeBehind("a node's log is behind the clock")
    told = ", ".join(
        f"{node} ({'never' if not at else to_rfc3339(at)})" for node, at in sorted(silent.items())
    )
    return NodeBehind(
        f"not heard of: {told}; start it again, or declare it gone: tallyman node retire NODE"
    )
