"""Voiding events wherever they are: in this gateway's log, in a sibling's, or before the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from catalog.ids import NodeId
from ingest.ports import Appended
from ingest.voids import VoidItem, VoidOutcome, void_records


class OwnLog(Protocol):
    """What voiding asks of this gateway's :class:`ingest.commit.Ingestor`."""

    async def void(self, items: list[VoidItem]) -> VoidOutcome:
        """Void what this gateway accepted within the window."""
        ...

    async def append_records(self, records: pl.DataFrame) -> Appended:
        """Append records, durably."""
        ...


class OtherLogs(Protocol):
    """The other gateways of this machine."""

    async def void(self, items: Sequence[VoidItem]) -> VoidOutcome:
        """Void what any of them that runs accepted within the window."""
        ...


class Found(Protocol):
    """Where an event is."""

    @property
    def node(self) -> NodeId:
        """Whose log it is in."""
        ...

    @property
    def seq(self) -> int:
        """Which record it is."""
        ...

    @property
    def void(self) -> bool:
        """Whether it is void."""
        ...


class Places(Protocol):
    """Finds events by identity in everything that was ever accepted."""

    async def __call__(self, items: Sequence[VoidItem]) -> Sequence[Found | None]:
        """Where each item's event is.

        With a ``time`` it is the one of that day, without one it was received within the window.

        Raises:
            Unavailable: it cannot be told now.
        """
        ...


class Voiding:
    """Voids by identity. Each kind of place is asked only for what the ones before do not know.

    What no gateway remembers is found by the worker, and its void written to this gateway's log.
    """

    def __init__(self, *, own: OwnLog, others: OtherLogs, places: Places) -> None:
        self._own = own
        self._others = others
        self._places = places

    async def __call__(self, items: list[VoidItem]) -> VoidOutcome:
        """Void events, durably.

        Raises:
            Backpressure, LogUnavailable: see :class:`ingest.commit.Ingestor`.
            Unavailable: some of them, found nowhere near, cannot be looked for. The others are
                void; sending all of it again is safe.
        """
        outcome = await self._own.void(items)
        if outcome.unknown:
            outcome = outcome.then(await self._others.void(outcome.unknown))
        if outcome.unknown:
            outcome = outcome.then(await self._far(outcome.unknown))
        return outcome

    async def _far(self, items: Sequence[VoidItem]) -> VoidOutcome:
        places = await self._places(items)
        chosen: dict[tuple[NodeId, int], tuple[VoidItem, NodeId, int]] = {}
        unknown = []
        for item, found in zip(items, places, strict=True):
            if found is None:
                unknown.append(item)
            elif not found.void:
                chosen.setdefault((found.node, found.seq), (item, found.node, found.seq))
        if chosen:
            await self._own.append_records(void_records(list(chosen.values())))
        already = len(items) - len(unknown) - len(chosen)
        return VoidOutcome(voided=len(chosen), already_void=already, unknown=unknown)
