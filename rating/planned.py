"""Plans that are kept: what follows from the catalog alone is worked out once.

Rating the same period again then costs what counting and pricing cost. Nothing here is stored and
nothing here is a number: dropping it changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.periods import FOREVER, PeriodSpec
from catalog.snapshot import Catalog, Chain
from rating.contract_terms.account import Reach
from rating.contract_terms.agreement import Agreement, Agreements
from rating.contract_terms.recall import Recalling
from rating.kept import Kept
from rating.plan import Alike, LinePlan, Owner, Part, alike_of
from rating.terms import Terms
from rating.timeline import term_of

T = TypeVar("T")
Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

LINES_KEPT_MAX = 200_000
QUESTION_LINES = 50
"""What a kept question takes besides its lines, in lines: one of a single customer is 41 kB."""
ENDLESS = Micros(FOREVER)


class Planned(Sequence[LinePlan]):
    """Plans of lines as columns, with whatever :func:`once` has made of them.

    A line is a part of a contract: ``owners[owner[line]]`` and ``parts[part[line]]``. Parts are
    few, as contracts that are alike share them; plans are made when they are asked for.
    """

    def __init__(
        self, owners: Sequence[Owner], parts: Sequence[Part], owner: Numbers, part: Numbers
    ) -> None:
        self.owners, self.parts = owners, parts
        self.owner, self.part = owner, part
        self._made: dict[object, Any] = {}

    @classmethod
    def of(cls, plans: Sequence[LinePlan]) -> Planned:
        """Any plans, one by one."""
        parts = {id(plan.part): plan.part for plan in plans}
        places = {key: place for place, key in enumerate(parts)}
        return cls(
            [Owner(plan.contract, plan.customer, plan.revision) for plan in plans],
            list(parts.values()),
            np.arange(len(plans), dtype=np.int64),
            np.fromiter((places[id(plan.part)] for plan in plans), np.int64, len(plans)),
        )

    @classmethod
    def alike(cls, found: Iterable[tuple[Owner, Alike]]) -> Planned:
        """The lines of contracts, contract after contract, in the order of their parts."""
        owners, shared, codes = [], dict[int, tuple[int, Alike]](), []
        for owner, alike in found:
            owners.append(owner)
            codes.append(shared.setdefault(id(alike), (len(shared), alike))[0])
        held = [alike.parts for _, alike in shared.values()]
        lengths = np.array([len(parts) for parts in held], dtype=np.int64)
        kind = np.array(codes, dtype=np.int64)
        part, owner_of = spread(lengths, kind)
        return cls(owners, [part for parts in held for part in parts], owner_of, part)

    @overload
    def __getitem__(self, index: int) -> LinePlan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LinePlan]: ...
    def __getitem__(self, index: int | slice) -> LinePlan | Sequence[LinePlan]:
        if isinstance(index, slice):
            return [self[line] for line in range(*index.indices(len(self)))]
        owner, part = self.owners[self.owner[index]], self.parts[self.part[index]]
        return LinePlan(owner.contract, owner.customer, part, owner.revision)

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[LinePlan]:
        return (self[line] for line in range(len(self)))

    def known(self, name: object, make: Callable[[], T]) -> T:
        """What ``make`` gives, called the first time only (or by two at once)."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def where(self, test: Callable[[Part], bool]) -> Flags:
        """Line by line, whether its part passes; each part is asked once."""
        passes = np.fromiter(map(test, self.parts), np.bool_, len(self.parts))
        found: Flags = passes[self.part]
        return found

    def begun(self, as_of: Micros) -> Planned:
        """The lines of billing periods that have begun by ``as_of``."""
        kept = self.where(lambda part: part.period.start <= as_of)
        return Planned(self.owners, self.parts, self.owner[kept], self.part[kept])


def spread(lengths: Numbers, kinds: Numbers) -> tuple[Numbers, Numbers]:
    """For each of ``kinds`` all things of that kind: which thing, and whose (an index of kinds).

    Things are numbered kind after kind; there are ``lengths`` of each.
    """
    counts = lengths[kinds]
    whose = np.repeat(np.arange(len(kinds)), counts)
    first = (np.cumsum(lengths) - lengths)[kinds]
    before = np.cumsum(counts) - counts
    return np.arange(len(whose)) + np.repeat(first - before, counts), whose


def planned(plans: Sequence[LinePlan]) -> Planned:
    """``plans`` as columns."""
    return plans if isinstance(plans, Planned) else Planned.of(plans)


def once(plans: Sequence[LinePlan], make: Callable[[Planned], T]) -> T:
    """What ``make``, a function of plans alone, gives for ``plans``; kept where they are kept."""
    columns = planned(plans)
    return columns.known(make, lambda: make(columns))


def lines_where(plans: Sequence[LinePlan], test: Callable[[Terms], bool]) -> list[int]:
    """The lines whose terms pass ``test``."""
    passing = planned(plans).where(lambda part: test(part.terms))
    lines: list[int] = np.flatnonzero(passing).tolist()
    return lines


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
    every: Planned
    starts: Sequence[int]
    agreed: Sequence[tuple[Agreement, Micros]]
    begun: tuple[int, Planned] | None = field(default=None)

    def at(self, as_of: Micros) -> Work:
        """What of it has begun by ``as_of``."""
        count = sum(start <= as_of for start in self.starts)
        held = self.begun
        if held is None or held[0] != count:
            held = self.begun = count, self.every.begun(as_of)
        until = self.period.until
        agreed = [(a, Reach(since=since, until=until, as_of=as_of)) for a, since in self.agreed]
        return Work(plans=held[1], agreed=agreed)


class Planning:
    """Keeps the plans of the last questions. Thread-safe: two at once may both plan."""

    def __init__(self, *, lines_max: int = LINES_KEPT_MAX) -> None:
        self._kept: Kept[object, _Kept] = Kept(lines_max, at_least=1)

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
        found = self._kept.get(key)
        if found is None or found.catalog is not catalog:
            found = _plan(catalog, period, customers=customers, contracts=contracts)
            self._kept.put(key, found, size=len(found.every) + QUESTION_LINES)
        return found.at(as_of)


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
    found = list(alike_of(catalog, recalling, customers=customers, contracts=contracts))
    every = Planned.alike(found)
    reached = [recalling.reach(term_of(catalog, c)) for c in _with_terms(found, recalling)]
    return _Kept(
        catalog=catalog,
        period=period,
        every=every,
        starts=sorted({part.period.start for part in every.parts}),
        agreed=[(each[0], each[1].since) for each in reached if each is not None],
    )


def _with_terms(
    found: Sequence[tuple[Owner, Alike]], recalling: Recalling
) -> Iterator[Chain[Contract]]:
    """The contracts that have terms as a whole; those that are alike all have them, or none."""
    known: dict[int, bool] = {}
    for owner, alike in found:
        has = known.get(id(alike))
        if has is None:
            has = known[id(alike)] = recalling.reach(alike.term) is not None
        if has and owner.chain is not None:
            yield owner.chain
