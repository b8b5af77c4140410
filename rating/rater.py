"""Rating that remembers: the plans of a period, and the last answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from catalog.clock import Micros
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.kept import Kept
from rating.pipeline import Rated, rate
from rating.planned import Planning
from rating.ports import FactSource

LINES_KEPT_MAX = 300_000
ANSWER_LINES = 40
"""What a kept answer takes besides its lines, in lines: one of two lines is 12 kB."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was answered, from what: held, so that no other catalog or source takes its place."""

    catalog: Catalog
    source: FactSource
    rated: Rated


class Rater:
    """:func:`rating.pipeline.rate` for one process. Thread-safe.

    What was received up to an ``as_of`` never changes, so the same question to the same catalog
    has the same answer: the pages of a list are rated once.
    """

    def __init__(self, *, lines_max: int = LINES_KEPT_MAX) -> None:
        self._planning = Planning()
        self._kept: Kept[object, _Answer] = Kept(lines_max, at_least=1)

    def rate(  # noqa: PLR0913 - one question, all of it optional but three
        self,
        catalog: Catalog,
        *,
        period: PeriodSpec,
        source: FactSource,
        as_of: Micros,
        customers: Collection[str] | None = None,
        contracts: Collection[str] | None = None,
        zeros: bool = False,
    ) -> Rated:
        """Every line that counts in ``period``; see :func:`rating.pipeline.rate`."""
        who = tuple(None if names is None else frozenset(names) for names in (customers, contracts))
        key = (id(catalog), id(source), period, as_of, who, zeros)
        held = self._kept.get(key)
        if held is not None:
            return held.rated
        rated = rate(
            catalog,
            period=period,
            source=source,
            as_of=as_of,
            customers=customers,
            contracts=contracts,
            zeros=zeros,
            planning=self._planning,
        )
        self._kept.put(key, _Answer(catalog, source, rated), size=rated.lines.height + ANSWER_LINES)
        return rated
