"""Events as support looks them up: what was received, and what became of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson
import polars as pl

from api.freshness import Freshness
from api.matching import Matcher
from api.places import Place
from catalog.clock import DAY_US, Micros, to_micros
from catalog.errors import NotFound
from catalog.events import UnmatchedReason
from catalog.ids import NodeId
from catalog.snapshot import Catalog
from ingest.voids import VoidItem
from storage.clickhouse.events import EventPlace, EventQuery

SCAN_ROWS = 10_000
SCAN_ROWS_MAX = 200_000
PLACE_LIMIT = 2**62


class Catalogs(Protocol):
    """The catalog as it stands."""

    def current(self) -> Catalog:
        """Everything stated so far."""
        ...


class Events(Protocol):
    """Where events are looked up (storage.clickhouse.events)."""

    def page(
        self, query: EventQuery, *, limit: int, after: EventPlace | None = None
    ) -> pl.DataFrame:
        """FOUND rows, newest event time first."""
        ...

    def find(self, *, source: str, event_id: str) -> pl.DataFrame:
        """FOUND rows of one identity."""
        ...

    def among(self, identities: pl.DataFrame, *, since: Micros | None) -> pl.DataFrame:
        """FOUND rows of many identities."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events as JSON objects, and where the next page begins (null: there is none)."""

    items: Sequence[Mapping[str, object]]
    after: EventPlace | None


class EventLog:
    """Answers look-ups. Every answer sees what was acknowledged before it was asked for."""

    def __init__(self, *, events: Events, catalogs: Catalogs, freshness: Freshness) -> None:
        self._events = events
        self._catalogs = catalogs
        self._freshness = freshness
        self._matcher: tuple[int, Matcher] | None = None

    async def page(
        self, query: EventQuery, *, limit: int, after: EventPlace | None = None
    ) -> EventPage:
        """The events that match ``query``, newest event time first."""
        await self._freshness.settle(None, [])
        return await asyncio.to_thread(self._page, query, limit, after)

    async def find(self, *, source: str, event_id: str) -> Mapping[str, object]:
        """One event by its identity: the copy that counts, or would if it were not void.

        ``copies`` are the others that were accepted, in order of receipt.

        Raises:
            NotFound: no such event was accepted.
        """
        await self._freshness.settle(None, [])
        return await asyncio.to_thread(self._find, source, event_id)

    async def places(self, items: Sequence[VoidItem], *, since: Micros) -> list[Place | None]:
        """Where each item's event is: with a time the one of that day, else received ``since``."""
        await self._freshness.settle(None, [])
        return await asyncio.to_thread(self._places, items, since)

    async def unmatched(
        self,
        query: EventQuery,
        *,
        reason: UnmatchedReason | None = None,
        limit: int,
        after: EventPlace | None = None,
    ) -> EventPage:
        """The events that match ``query`` and are in no line, void ones left out.

        Looks at no more than 200,000 events at a time: a page may hold less than ``limit``, even
        nothing, and still have a next one.
        """
        await self._freshness.settle(None, [])
        return await asyncio.to_thread(self._unmatched, query, reason, limit, after)

    def _page(self, query: EventQuery, limit: int, after: EventPlace | None) -> EventPage:
        rows = self._events.page(query, limit=limit + 1, after=after)
        shown = self._judged(rows.head(limit))
        place = _place(shown, limit - 1) if rows.height > limit else None
        return EventPage(items=_items(shown), after=place)

    def _find(self, source: str, event_id: str) -> Mapping[str, object]:
        rows = self._events.find(source=source, event_id=event_id)
        if rows.is_empty():
            raise NotFound(f"no event {event_id} of {source} was accepted")
        first, *copies = _items(self._judged(_ranked(rows)))
        return {**first, "copies": copies}

    def _places(self, items: Sequence[VoidItem], since: Micros) -> list[Place | None]:
        identities = pl.DataFrame(
            [(item.source, item.id) for item in items], schema=["source", "id"], orient="row"
        )
        dated = any(item.time is not None for item in items)
        rows = self._events.among(identities.unique(), since=None if dated else since)
        known: dict[tuple[str, str], list[Mapping[str, object]]] = defaultdict(list)
        for row in _ranked(rows).iter_rows(named=True):
            known[row["source"], row["id"]].append(row)
        return [_place_of(item, known[item.source, item.id], since) for item in items]

    def _unmatched(
        self,
        query: EventQuery,
        reason: UnmatchedReason | None,
        limit: int,
        after: EventPlace | None,
    ) -> EventPage:
        found: list[Mapping[str, object]] = []
        for _ in range(SCAN_ROWS_MAX // SCAN_ROWS):
            rows = self._judged(self._events.page(query, limit=SCAN_ROWS, after=after))
            wanted = pl.col("status") == "unmatched"
            if reason is not None:
                wanted &= pl.col("reason") == reason.value
            places = rows.select(pl.arg_where(wanted)).to_series().to_list()
            taken = places[: limit - len(found)]
            found.extend(_items(rows[taken]))
            if len(found) == limit:
                more = taken[-1] + 1 < rows.height or rows.height == SCAN_ROWS
                return EventPage(items=found, after=_place(rows, taken[-1]) if more else None)
            if rows.height < SCAN_ROWS:
                return EventPage(items=found, after=None)
            after = _place(rows, rows.height - 1)
        return EventPage(items=found, after=after)

    def _judged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``rows`` with ``status`` (counted, unmatched, void, collapsed) and ``reason``."""
        reasons = self._matching().reasons(rows).alias("reason")
        gone = pl.col("void_cause").is_not_null()
        return rows.with_columns(reasons).with_columns(
            status=pl.when(gone)
            .then("void_cause")
            .when(pl.col("reason").is_not_null())
            .then(pl.lit("unmatched"))
            .otherwise(pl.lit("counted")),
            reason=pl.when(~gone).then("reason"),
        )

    def _matching(self) -> Matcher:
        catalog = self._catalogs.current()
        if self._matcher is None or self._matcher[0] != catalog.revision:
            self._matcher = (catalog.revision, Matcher(catalog))
        return self._matcher[1]


_RANKS = {"void": 1, "collapsed": 2}


def _ranked(rows: pl.DataFrame) -> pl.DataFrame:
    """FOUND rows with the copy that counts, or would if it were not void, first."""
    rank = pl.col("void_cause").replace_strict(_RANKS, default=0, return_dtype=pl.Int8)
    return rows.sort(rank, "received_at", "node", "seq")


def _place_of(item: VoidItem, rows: Iterable[Mapping[str, object]], since: Micros) -> Place | None:
    for row in rows:
        time, received_at = row["time"], row["received_at"]
        assert isinstance(time, datetime)
        assert isinstance(received_at, datetime)
        if item.time is None:
            meant = to_micros(received_at) >= since
        else:
            meant = to_micros(time) // DAY_US == item.time // DAY_US
        if meant:
            seq = row["seq"]
            assert isinstance(seq, int)
            return Place(node=NodeId(str(row["node"])), seq=seq, void=row["void_cause"] == "void")
    return None


def _place(rows: pl.DataFrame, index: int) -> EventPlace:
    row = rows.row(index, named=True)
    return EventPlace(time=to_micros(row["time"]), node=NodeId(row["node"]), seq=row["seq"])


def _items(rows: pl.DataFrame) -> list[Mapping[str, object]]:
    return [_item(row) for row in rows.iter_rows(named=True)]


def _item(row: Mapping[str, object]) -> Mapping[str, object]:
    data = row["data"]
    assert isinstance(data, str)
    return {
        "source": row["source"],
        "id": row["id"],
        "type": row["type"],
        "subject": row["subject"],
        "time": row["time"],
        "data": orjson.Fragment(data),  # as it was sent: digits and key order included
        "received_at": row["received_at"],
        "node": row["node"],
        "seq": row["seq"],
        "status": row["status"],
        "reason": row["reason"],
        "voided_at": row["void_at"],
    }


def place_text(place: EventPlace) -> str:
    """A place as the inside of a cursor."""
    return f"{place.time}/{place.seq}/{place.node}"


def place_of(text: str) -> EventPlace:
    """What :func:`place_text` wrote.

    Raises:
        ValueError: it did not write this.
    """
    time, seq, node = text.split("/", 2)
    place = EventPlace(time=Micros(int(time)), node=NodeId(node), seq=int(seq))
    if max(abs(place.time), abs(place.seq)) >= PLACE_LIMIT:
        raise ValueError("not a place")
    return place
