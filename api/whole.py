"""Readings that no drop falls into.

A question waits for its facts and reads them afterwards. ``tallyman rebuild`` may drop them in
between, and what is missing reads as none. So every reading here is of a store that covered the
instant asked for since it was last dropped, and that was not dropped until the end of the reading.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import polars as pl

from api.eventlog import Events
from api.freshness import ReadersBehind
from catalog.clock import Micros
from catalog.ids import SpecId
from invoicing.ports import Arrivals, Arrived
from rating.ports import FactSource, SpecPositions
from storage.clickhouse.events import EventPlace, EventQuery

NO_SPEC = SpecId("")
"""What is covered whatever the specs: events and compensations."""


class Whole:
    """:class:`rating.ports.SpecPositions` that remember what they said, until the next drop.

    ``generation`` is that of the store (see :class:`api.readers.drops.Drops`). Between two drops
    a store only grows, so what was covered once is covered for earlier instants, too.
    """

    def __init__(self, positions: SpecPositions, *, generation: Callable[[], int | None]) -> None:
        self._positions = positions
        self._generation = generation
        self._lock = threading.Lock()
        self._covered: dict[SpecId, tuple[int, Micros]] = {}
        """By spec the last generation that covered it, and up to when."""
        self._newest = Micros(0)

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether facts of ``specs`` are complete up to ``as_of``; false during a drop."""
        generation = self._generation()
        if generation is None or not self._positions.covered(specs, as_of=as_of):
            return False
        if generation != self._generation():
            return False
        with self._lock:
            self._newest = max(self._newest, as_of)
            for spec in (NO_SPEC, *specs):
                place = (generation, as_of)
                self._covered[spec] = max(self._covered.get(spec, place), place)
        return True

    def once_covered(self, specs: Collection[SpecId]) -> list[SpecId]:
        """Those of ``specs`` that were ever found covered, whatever was dropped since."""
        with self._lock:
            return [spec for spec in specs if spec in self._covered]

    @contextmanager
    def reading(self, specs: Sequence[SpecId], *, as_of: Micros | None = None) -> Iterator[None]:
        """Read inside what is complete up to ``as_of`` (null: all that was ever found covered).

        Raises:
            ReadersBehind: the store was dropped since the question waited for it, or is now.
                Whatever the reading raised then is the cause.
        """
        generation = self._generation()
        until = self._newest if as_of is None else as_of
        if not (self._known(generation, specs, until) or self.covered(specs, as_of=until)):
            raise _dropped()
        try:
            yield
        except Exception as error:
            if generation != self._generation():
                raise _dropped() from error
            raise
        if generation != self._generation():
            raise _dropped()

    def _known(self, generation: int | None, specs: Sequence[SpecId], until: Micros) -> bool:
        if generation is None:
            return False
        with self._lock:
            places = [self._covered.get(spec, (-1, until)) for spec in (NO_SPEC, *specs)]
        return all(place >= (generation, until) for place in places)


class WholeFacts:
    """:class:`rating.ports.FactSource`, each reading whole.

    :meth:`facts` may be read later: what was found is read then, or is gone and raises.
    """

    def __init__(self, source: FactSource, whole: Whole) -> None:
        self._source = source
        self._whole = whole

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of ``spans``: see :class:`rating.ports.FactSource`."""
        with self._whole.reading(_specs(spans), as_of=as_of):
            return self._source.sums(spans, as_of=as_of)

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of ``spans``: see :class:`rating.ports.FactSource`."""
        with self._whole.reading(_specs(spans), as_of=as_of):
            return self._source.extremes(spans, as_of=as_of)

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span``: see :class:`rating.ports.FactSource`."""
        with self._whole.reading(_specs(spans), as_of=as_of):
            return self._source.facts(spans, as_of=as_of)


class WholeArrivals:
    """:class:`invoicing.ports.Arrivals`, each reading whole.

    Nobody waits for ``specs`` that no price reads: only those that somebody waited for count.
    """

    def __init__(
        self, arrivals: Arrivals, whole: Whole, *, specs: Callable[[], Collection[SpecId]]
    ) -> None:
        self._arrivals = arrivals
        self._whole = whole
        self._specs = specs

    def subjects(self, arrived: Arrived) -> frozenset[str]:
        """Subjects of events received in the interval: see :class:`invoicing.ports.Arrivals`."""
        specs = self._whole.once_covered(self._specs())
        with self._whole.reading(specs, as_of=arrived.upto):
            return self._arrivals.subjects(arrived)


class WholeEvents:
    """:class:`api.eventlog.Events`, each reading whole."""

    def __init__(self, events: Events, whole: Whole) -> None:
        self._events = events
        self._whole = whole

    def page(
        self, query: EventQuery, *, limit: int, after: EventPlace | None = None
    ) -> pl.DataFrame:
        """FOUND rows, newest event time first."""
        with self._whole.reading(()):
            return self._events.page(query, limit=limit, after=after)

    def find(self, *, source: str, event_id: str) -> pl.DataFrame:
        """FOUND rows of one identity."""
        with self._whole.reading(()):
            return self._events.find(source=source, event_id=event_id)

    def among(self, identities: pl.DataFrame, *, since: Micros | None) -> pl.DataFrame:
        """FOUND rows of many identities."""
        with self._whole.reading(()):
            return self._events.among(identities, since=since)


def _specs(spans: pl.DataFrame) -> list[SpecId]:
    return [SpecId(name) for name in spans["spec"].unique()]


def _dropped() -> ReadersBehind:
    return ReadersBehind("what the answer is read from is being rebuilt")
