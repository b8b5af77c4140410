"""Stretches at the end of the logs, read and extracted once for all readers of the worker.

The readers stand at about the same place and want the same facts, so whoever comes first reads
and extracts, and the others find it here. What they are given is what they would have read: a fact
depends on its own record alone, so pages may be cut and put together anywhere.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from api.readers.base import Specs, Tail
from api.readers.pages import within
from catalog.events import FACTS, RECORDS
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from ingest.extract import facts_by_spec

ROWS_KEPT_MAX = 1 << 16
BYTES_KEPT_MAX = 48 << 20
"""Of each log: about three seconds at 20,000 events a second. Who is further behind reads alone."""
PATIENCE_S = 0.01
"""A small page is extracted sooner; nobody waits for somebody's large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A page: what comes after ``after``, not beyond ``until`` (null: as far as there is)."""

    after: Seq
    rows_max: int
    until: Seq | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A contiguous stretch of one log (RECORDS) and its FACTS of some specs, by ascending seq."""

    records: pl.DataFrame
    facts: Mapping[SpecId, pl.DataFrame]

    def of(self, spec: SpecId) -> pl.DataFrame:
        """The facts of one spec."""
        return self.facts.get(spec, FACTS.to_frame())


@dataclass(frozen=True, slots=True)
class _Held:
    first: int
    last: int
    records: pl.DataFrame
    facts: Mapping[SpecId, pl.DataFrame]
    specs: frozenset[SpecId]
    size_bytes: int


@dataclass(slots=True)
class _End:
    """What is kept of one log: contiguous, its newest last."""

    rows_max: int
    held: deque[_Held] = field(default_factory=deque)
    first: int = 0
    rows: int = 0
    size_bytes: int = 0
    reading: threading.Lock = field(default_factory=threading.Lock)

    def is_beyond(self, after: Seq) -> bool:
        """Whether what follows ``after`` is no longer kept: who stands there reads alone."""
        return after + 1 < self.first

    def holding(self, seq: int) -> _Held | None:
        """The stretch that holds ``seq``."""
        return next((one for one in reversed(self.held) if one.first <= seq <= one.last), None)

    def keep(self, one: _Held) -> None:
        """Add what follows; what does not begins anew, unless it is older."""
        newest = self.held[-1].last if self.held else -1
        if one.first != newest + 1:
            if one.last <= newest:
                return
            self.held.clear()
            self.rows = self.size_bytes = 0
        self.held.append(one)
        self.rows += one.records.height
        self.size_bytes += one.size_bytes
        while len(self.held) > 1 and (
            self.rows > self.rows_max or self.size_bytes > BYTES_KEPT_MAX
        ):
            gone = self.held.popleft()
            self.rows -= gone.records.height
            self.size_bytes -= gone.size_bytes
        self.first = self.held[0].first


class SharedPages:
    """Gives readers their pages. Thread-safe; a tail belongs to the thread that hands it over."""

    def __init__(self, specs: Specs, *, rows_kept: int = ROWS_KEPT_MAX) -> None:
        """Share extractions of ``specs``; others are extracted for whoever wants them.

        ``rows_kept`` is of each log, and at least the last page is kept.
        """
        self._specs = specs
        self._rows_kept = rows_kept
        self._ends: dict[NodeId, _End] = {}
        self._lock = threading.Lock()

    def read(
        self, node: NodeId, tail: Tail, wanted: Wanted, *, specs: Mapping[SpecId, FactSpec]
    ) -> Read:
        """The next page of a log with its facts of ``specs``; no records only at its end.

        Raises:
            LogCorrupt: it cannot be read back.
        """
        with self._lock:
            end = self._ends.setdefault(node, _End(rows_max=self._rows_kept))
        if end.is_beyond(wanted.after) or not end.reading.acquire(timeout=PATIENCE_S):
            found = [_read(node, tail, wanted, specs)]
        else:
            try:
                found = self._read_shared(end, node, tail, wanted, specs=specs)
            finally:
                end.reading.release()
        return _joined([one for one in found if one is not None], wanted, specs)

    def _read_shared(
        self,
        end: _End,
        node: NodeId,
        tail: Tail,
        wanted: Wanted,
        *,
        specs: Mapping[SpecId, FactSpec],
    ) -> list[_Held | None]:
        """What is kept of the page, and the rest of it read and kept."""
        found: list[_Held | None] = []
        while (one := end.holding(wanted.after + 1)) is not None and specs.keys() <= one.specs:
            found.append(one)
            rest = wanted.rows_max - (one.last - wanted.after)
            wanted = Wanted(after=Seq(one.last), rows_max=rest, until=wanted.until)
            if rest <= 0 or (wanted.until is not None and wanted.after >= wanted.until):
                return found
        more = _read(node, tail, replace(wanted, until=None), {**self._specs(), **specs})
        if more is not None:
            end.keep(more)
        return [*found, more]


def _read(
    node: NodeId, tail: Tail, wanted: Wanted, specs: Mapping[SpecId, FactSpec]
) -> _Held | None:
    """Read a page and extract it; None where there is no more."""
    records = within(tail.read_after(wanted.after, rows_max=wanted.rows_max), wanted.until)
    if records.is_empty():
        return None
    facts = facts_by_spec(records, list(specs.values()), node=node)
    size_bytes = sum(int(frame.estimated_size()) for frame in (records, *facts.values()))
    return _Held(
        first=wanted.after + 1,
        last=int(records["seq"][-1]),
        records=records,
        facts=facts,
        specs=frozenset(specs),
        size_bytes=size_bytes,
    )


def _joined(parts: Sequence[_Held], wanted: Wanted, specs: Mapping[SpecId, FactSpec]) -> Read:
    """The page that was wanted, of the stretches it lies in."""
    last = wanted.after + wanted.rows_max
    last = last if wanted.until is None else min(last, wanted.until)

    def cut(frames: Sequence[pl.DataFrame], schema: pl.Schema) -> pl.DataFrame:
        pieces = [_between(frame, wanted.after, last) for frame in frames]
        pieces = [piece for piece in pieces if piece.height]
        if len(pieces) == 1:
            return pieces[0]
        return pl.concat(pieces) if pieces else schema.to_frame()

    return Read(
        records=cut([one.records for one in parts], RECORDS),
        facts={
            key: cut([one.facts[key] for one in parts if key in one.facts], FACTS) for key in specs
        },
    )


def _between(frame: pl.DataFrame, after: int, last: int) -> pl.DataFrame:
    """The rows of seq ``(after, last]``; a view."""
    seqs = frame["seq"].to_numpy()
    start, stop = np.searchsorted(seqs, (after, last), side="right").tolist()
    return frame if stop - start == len(seqs) else frame.slice(start, stop - start)
