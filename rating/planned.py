"""Plans that are kept: what follows from the catalog alone is worked out once.

Rating the same period again then costs what counting and pricing cost. Nothing here is stored and
nothing here is a number: dropping it changes no result.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from catalog.clock import Micros
from catalog.periods import FOREVER, PeriodSpec
from catalog.snapshot import Catalog
from rating.contract_terms.account import Reach
from rating.contract_terms.agreement import Agreement, Agreements
from rating.contract_terms.recall import Recalling
from rating.plan import LinePlan, plan_terms, terms_of

T = TypeVar("T")

LINES_KEPT_MAX = 200_000
ENDLESS = Micros(FOREVER)


class Planned(Sequence[LinePlan]):
    """Plans of lines, with whatever :func:`once` has made of them."""

    def __init__(self, plans: Sequence[LinePlan]) -> None:
        self._plans = tuple(plans)
        self._made: dict[object, Any] = {}

    @overload
    def __getitem__(self, index: int) -> LinePlan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LinePlan]: ...
    def __getitem__(self, index: int | slice) -> LinePlan | Sequence[LinePlan]:
        return self._plans[index]

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[LinePlan]:
        return iter(self._plans)

    def known(self, name: object, make: Callable[[], T]) -> T:
        """What ``make`` gives, called the first time only (or by two at once)."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made


def once(plans: Sequence[LinePlan], make: Callable[[Sequence[LinePlan]], T]) -> T:
    """What ``make``, a function of plans alone, gives for ``plans``; kept where they are kept."""
    return plans.known(make, lambda: make(plans)) if isinstance(plans, Planned) else make(plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The lines to rate, and how far each contract with terms as a whole is settled."""

    plans: Sequence[LinePlan]
    agreed: Sequence[tuple[Agreement, Reach]]


@dataclass(slots=True, kw_only=True)
class _Kept:
    """One question, without its instant: every line, begun or not, and those begun."""

    catalog: Catalog
    period: PeriodSpec
    every: Sequence[LinePlan]
    starts: Sequence[int]
    agreed: Sequence[tuple[Agreement, Micros]]
    begun: tuple[int, Planned] | None = field(default=None)

    def at(self, as_of: Micros) -> Work:
        """What of it has begun by ``as_of``."""
        count = sum(start <= as_of for start in self.starts)
        held = self.begun
        if held is None or held[0] != count:
            plans = [plan for plan in self.every if plan.period.start <= as_of]
            held = self.begun = count, Planned(plans)
        until = self.period.until
        agreed = [(a, Reach(since=since, until=until, as_of=as_of)) for a, since in self.agreed]
        return Work(plans=held[1], agreed=agreed)


class Planning:
    """Keeps the plans of the last questions. Thread-safe: two at once may both plan."""

    def __init__(self, *, lines_max: int = LINES_KEPT_MAX) -> None:
        self._lines_max = lines_max
        self._kept: OrderedDict[object, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        catalog: Catalog,
        period: PeriodSpec,
        as_of: Micros,
        *,
        customers: Collection[str] | None = None,
        contracts: Collection[str] | None = None,
    ) -> Work:
        """What there is to rate. Equal catalogs may be planned twice, the same one is not."""
        key = (id(catalog), period, _frozen(customers), _frozen(contracts))
        with self._lock:
            found = self._kept.get(key)
        if found is None or found.catalog is not catalog:
            found = _plan(catalog, period, customers=customers, contracts=contracts)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._lines() > self._lines_max:
                self._kept.popitem(last=False)
        return found.at(as_of)

    def _lines(self) -> int:
        return sum(len(kept.every) + 1 for kept in self._kept.values())


def _frozen(names: Collection[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _plan(
    catalog: Catalog,
    period: PeriodSpec,
    *,
    customers: Collection[str] | None,
    contracts: Collection[str] | None,
) -> _Kept:
    recalling = Recalling(period, ENDLESS, Agreements(catalog))
    terms = list(terms_of(catalog, customers=customers, contracts=contracts))
    plans = plan_terms(catalog, recalling, terms)
    reached = [found for term in terms if (found := recalling.reach(term)) is not None]
    return _Kept(
        catalog=catalog,
        period=period,
        every=plans,
        starts=sorted({plan.period.start for plan in plans}),
        agreed=[(agreement, reach.since) for agreement, reach in reached],
    )
