"""Copies that met only after both were accepted, and that do not say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import polars as pl

from api.freshness import Freshness
from api.readers.base import Tail
from api.readers.earlier import events_at
from catalog.clock import to_datetime
from catalog.ids import NodeId, Seq
from ingest.copies import Received
from storage.copies.log import Out, numbered_outs

SCAN_ROWS = 20_000
SCAN_PAGES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictPage:
    """Conflicts as JSON objects, and the compensation that the next page begins behind (or null).

    A page may hold less than was asked for, even nothing, and still have a next one.
    """

    items: Sequence[Mapping[str, object]]
    after: Seq | None


class Conflicts:
    """Lists conflicts in the order in which they were found.

    ``compensations`` is the log that tells of them, ``tails`` are those of the events it names.
    """

    def __init__(
        self,
        *,
        compensations: Callable[[], Tail],
        tails: Callable[[], Mapping[NodeId, Tail]],
        freshness: Freshness,
    ) -> None:
        self._compensations = compensations
        self._tails = tails
        self._freshness = freshness

    async def page(self, *, after: Seq, limit: int) -> ConflictPage:
        """At most ``limit`` conflicts found behind the compensation ``after``."""
        await self._freshness.settle(None, [])
        return await asyncio.to_thread(self._page, after, limit)

    def _page(self, after: Seq, limit: int) -> ConflictPage:
        tail, found, place = self._compensations(), list[tuple[Seq, Out]](), after
        for _ in range(SCAN_PAGES_MAX):
            records = tail.read_after(place, rows_max=SCAN_ROWS)
            if records.is_empty():
                return ConflictPage(items=self._items(found), after=None)
            place = Seq(int(records["seq"][-1]))
            found += _conflicts(records)
            if len(found) > limit:
                place = found[limit - 1][0]
                break
        return ConflictPage(items=self._items(found[:limit]), after=place)

    def _items(self, found: Sequence[tuple[Seq, Out]]) -> list[Mapping[str, object]]:
        pairs = [(out.place, out.counted) for _, out in found if out.counted is not None]
        places = {place for pair in pairs for place in pair}
        events = {one.place: one for one in events_at(places, self._tails())}
        return [_item(events[copy], events[counted]) for copy, counted in pairs]


def _conflicts(records: pl.DataFrame) -> list[tuple[Seq, Out]]:
    return [(seq, out) for seq, out in numbered_outs(records) if out.conflict]


def _item(copy: Received, counted: Received) -> Mapping[str, object]:
    return {
        "source": copy.source,
        "id": copy.id,
        "counted": _said(counted),
        "copy": _said(copy),
    }


def _said(event: Received) -> Mapping[str, object]:
    return {
        "type": event.type,
        "subject": event.subject,
        "time": to_datetime(event.time),
        "data": orjson.Fragment(event.data),  # as it was sent
        "received_at": to_datetime(event.received_at),
        "node": event.node,
        "seq": event.seq,
    }
