"""Closing months: once, whoever asks, however often, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from api.bookkeeping import Desk
from catalog.clock import EVER, Micros, to_rfc3339
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.closing import PeriodNotEnded, amounts_of, month_spec, month_to_close
from invoicing.placement import last_midnight
from invoicing.ports import ClosedMonth
from invoicing.view import BEGINNING, Scope
from rating.frames import LINES
from rating.rendering import checksum


class Closing:
    """The months of one deployment."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def close(self, period: str, *, actor: str | None) -> bytes:
        """Close a month and answer its body; a closed one answers the same bytes again.

        Raises:
            NotAMonth: the period is none.
            PeriodNotEnded: it is still running somewhere.
            EarlierPeriodOpen: an earlier month has open lines.
            NodeBehind: a node is silent.
            ReadersBehind: facts are missing.
        """
        month = month_spec(period)
        held = await asyncio.to_thread(self._desk.books.month, month.text)
        if held is not None:
            return held.body.encode()
        self._require_ended(month)
        closed = await self._desk.decide(lambda: self._attempt(month, actor))
        return closed.body.encode()

    async def period(self, period: str) -> bytes:
        """What a month comes to: as it was closed, or as it stands now.

        Raises:
            NotAMonth: the period is none.
        """
        month = month_spec(period)
        held = await asyncio.to_thread(self._desk.books.month, month.text)
        return held.body.encode() if held is not None else orjson.dumps(await self._now(month))

    async def _attempt(self, month: PeriodSpec, actor: str | None) -> ClosedMonth:
        desk = self._desk
        held = await asyncio.to_thread(desk.books.month, month.text)
        if held is not None:
            return held
        settled = await desk.settle()
        entry = await asyncio.to_thread(desk.entry, settled, actor=actor, closed_by=month.text)
        state = await asyncio.to_thread(desk.books.state, as_of=EVER)
        first = min(max(BEGINNING, state.closed_until), month.first)
        span = PeriodSpec(text=month.text, first=first, until=month.until)
        view, catalog = await desk.look(Scope(period=span, as_of=settled.as_of))
        _require_ended(month, catalog, desk.clock.now_us())
        new, lines = month_to_close(view, month, as_of=settled.as_of, watermark=settled.watermark)
        return await asyncio.to_thread(desk.books.close_month, new, lines, entry)

    def _require_ended(self, month: PeriodSpec) -> None:
        _require_ended(month, self._desk.catalogs.current(), self._desk.clock.now_us())

    async def _now(self, month: PeriodSpec) -> dict[str, Any]:
        settled = await self._desk.question()
        view, _ = await self._desk.look(Scope(period=month, as_of=settled.as_of))
        lines = view.lines.select(list(LINES))
        return {
            "period": month.text,
            "status": "open",
            "closed_at": None,
            "as_of": to_rfc3339(settled.as_of),
            "watermark": to_rfc3339(settled.watermark),
            "lines": lines.height,
            "checksum": checksum(lines),
            "amounts": amounts_of(lines),
        }


def _require_ended(month: PeriodSpec, catalog: Catalog, now: Micros) -> None:
    ended = last_midnight(catalog, month.until)
    if now < ended:
        raise PeriodNotEnded(f"{month.text} ends at {to_rfc3339(ended)}, where it ends last")
