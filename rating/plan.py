"""Which lines there are: contract × slot × billing period or part, before anything is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Protocol
from zoneinfo import ZoneInfo

from catalog.clock import Micros, to_datetime
from catalog.contracts import Contract
from catalog.errors import DomainError
from catalog.ids import ContractId, CustomerId, SpecId
from catalog.periods import (
    FOREVER,
    Period,
    PeriodSpec,
    accounting_date,
    billing_periods,
    period_start,
)
from catalog.pricebooks import Invoicing, Prorate, Timing
from catalog.snapshot import Catalog, Chain
from catalog.specs import capacity_meters, dynamic_specs
from rating.frames import LineKind
from rating.overrides import OWN, Origin
from rating.shares import Share, fee_share, usage_share
from rating.terms import Terms
from rating.timeline import Stretch, Term, Timelines, likeness, term_of

_UTC = ZoneInfo("UTC")


class UsageInAdvance(DomainError):
    """A metered price is billed in advance without a fixed quantity; apply refuses it."""

    code = "usage_in_advance"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A billing period, or a part of one, under one slot's terms: a line but for whose it is.

    Contracts that are alike share parts (compared by identity), so what follows from a part alone
    is worked out once. ``[start, end)`` is the billing period or the part of it under ``terms``.
    ``spans`` are those over which tiers accumulate, where they are others than billing periods.
    """

    slot: str
    terms: Terms
    origin: Origin
    period: Period
    start: Micros
    end: Micros
    share: Share
    accounting: date
    timezone: ZoneInfo = _UTC
    spans: tuple[tuple[Micros, Micros], ...] = ()


@dataclass(slots=True)
class LinePlan:
    """One line but for its groups and quantities: a part of one contract. Not to be changed."""

    contract: ContractId
    customer: CustomerId
    part: Part
    revision: int | None

    @property
    def slot(self) -> str:
        """The slot of the contract's prices."""
        return self.part.slot

    @property
    def terms(self) -> Terms:
        """What decides the amount."""
        return self.part.terms

    @property
    def origin(self) -> Origin:
        """Where the terms come from; contracts of one version share the parts, not the origin."""
        found = self.part.origin
        if found.source != OWN or self.revision is None:
            return found
        return replace(found, id=self.contract, revision=self.revision)

    @property
    def period(self) -> Period:
        """The whole billing period."""
        return self.part.period

    @property
    def start(self) -> Micros:
        """The first instant."""
        return self.part.start

    @property
    def end(self) -> Micros:
        """The instant after the last."""
        return self.part.end

    @property
    def share(self) -> Share:
        """Which share of the period's terms it bears."""
        return self.part.share

    @property
    def accounting(self) -> date:
        """The day it counts on."""
        return self.part.accounting

    @property
    def timezone(self) -> ZoneInfo:
        """The contract's calendar."""
        return self.part.timezone

    @property
    def spans(self) -> tuple[tuple[Micros, Micros], ...]:
        """The spans of tiers that it meets."""
        return self.part.spans

    @property
    def name(self) -> LineName:
        """What its id has in common with those of all lines of its part."""
        timing = self.terms.invoicing.timing
        return LineName.of(self.slot, timing, self.period.start, self.start)

    def line_id(self, dimensions: str) -> str:
        """Stable: what the line is (contract, slot, timing, part, group), not what it comes to.

        ``contract~day~digest``, where the day (UTC) is the billing period's first, so that the id
        says where to look (:func:`rating.lines.named_in`).
        """
        return self.name.line_id(self.contract, dimensions)


def line_id(
    contract: ContractId, slot: str, timing: str, billed: Micros, start: Micros, group: str
) -> str:
    """``contract~day~digest`` of what a line is; see :meth:`LinePlan.line_id`."""
    return LineName.of(slot, timing, billed, start).line_id(contract, group)


@dataclass(frozen=True, slots=True)
class LineName:
    """What the ids of all lines of one part have in common: worked out once for all of them."""

    day: str
    place: str

    @classmethod
    def of(cls, slot: str, timing: str, billed: Micros, start: Micros) -> LineName:
        """Of a slot's lines in a billing period, from ``start`` on."""
        parts = (slot, timing, str(billed), str(start))
        return cls(f"~{to_datetime(billed):%Y%m%d}~", "\x1f".join(("", *parts, "")))

    def line_id(self, contract: ContractId, group: str) -> str:
        """``contract~day~digest``."""
        digest = hashlib.sha256(f"{contract}{self.place}{group}".encode()).hexdigest()
        return f"{contract}{self.day}{digest[:20]}"


def specs_needed(catalog: Catalog) -> tuple[SpecId, ...]:
    """Every fact spec that pricing may read: what the readers must have covered first."""
    metered: set[object] = {p.meter for chain in catalog.products.values() for p in chain.values}
    metered |= capacity_meters(catalog)
    meters = (chain for meter, chain in catalog.meters.items() if meter in metered)
    found = {m.fact_spec.id for chain in meters for m in chain.values if m.billable}
    return tuple(sorted(found | {spec.id for spec in dynamic_specs(catalog)}))


class Selection(Protocol):
    """Which billing periods are wanted, contract by contract."""

    def of(self, term: Term) -> Chosen:
        """Those of one contract. Equal answers share work, so they are hashable values."""
        ...


class Chosen(Protocol):
    """Which billing periods of a contract are wanted."""

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """An interval that every wanted billing period of the contract meets."""
        ...

    def wants(self, period: Period, accounting: date) -> bool:
        """Whether this billing period is one of them."""
        ...


@dataclass(frozen=True, slots=True)
class Accounted:
    """Billing periods that count in a period of accounting dates and have begun by ``as_of``."""

    spec: PeriodSpec
    as_of: Micros

    def of(self, term: Term) -> Chosen:
        """The same for every contract."""
        del term
        return self

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """The accounting period on the contract's calendar: a period counts on a day of its own."""
        return self.spec.bounds(term.timezone)

    def wants(self, period: Period, accounting: date) -> bool:
        """Begun, and counting in it."""
        return period.start <= self.as_of and self.spec.holds(accounting)


@dataclass(frozen=True, slots=True)
class Started:
    """Billing periods that start on one UTC day: what a line id says."""

    day: Micros

    def of(self, term: Term) -> Chosen:
        """The same for every contract."""
        del term
        return self

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """The day."""
        del term
        return self.day, Micros(self.day + 86_400_000_000)

    def wants(self, period: Period, accounting: date) -> bool:
        """Starting on the day."""
        del accounting
        return self.day <= period.start < self.day + 86_400_000_000


def plan_lines(
    catalog: Catalog,
    selection: Selection,
    *,
    customers: Collection[str] | None = None,
    contracts: Collection[str] | None = None,
) -> list[LinePlan]:
    """Every line of the contracts asked for (null: all) in the billing periods selected.

    In order of contract, slot and time; the same catalog gives the same list.
    """
    found = alike_of(catalog, selection, customers=customers, contracts=contracts)
    return [
        LinePlan(owner.contract, owner.customer, part, owner.revision)
        for owner, alike in found
        for part in alike.parts
    ]


@dataclass(slots=True)
class Owner:
    """Whose lines they are: a contract, its customer, and the revision if there is only one."""

    contract: ContractId
    customer: CustomerId
    revision: int | None
    chain: Chain[Contract] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """What contracts that are alike share: their parts, and one of them as a term."""

    term: Term
    parts: Sequence[Part]


def alike_of(
    catalog: Catalog,
    selection: Selection,
    *,
    customers: Collection[str] | None = None,
    contracts: Collection[str] | None = None,
) -> Iterator[tuple[Owner, Alike]]:
    """Every contract asked for (null: all), by id, with the parts of its lines, by slot and time.

    What follows from the terms alone is worked out once for all contracts that state the same.
    """
    timelines, periods = Timelines(catalog), _Periods()
    known: dict[object, Alike] = {}
    for chain in _chains(catalog, customers=customers, contracts=contracts):
        key, contract = likeness(chain), chain.last
        alike = known.get(key)
        if alike is None:
            term = term_of(catalog, chain)
            parts = tuple(_parts(timelines, term, periods, selection.of(term)))
            alike = known[key] = Alike(term=term, parts=parts)
        versions = chain.versions
        revision = versions[0].revision if len(versions) == 1 else None
        yield Owner(contract.id, contract.customer, revision, chain), alike


def terms_of(
    catalog: Catalog,
    *,
    customers: Collection[str] | None = None,
    contracts: Collection[str] | None = None,
) -> Iterator[Term]:
    """The contracts asked for (null: all) as rating reads them, by id."""
    for chain in _chains(catalog, customers=customers, contracts=contracts):
        yield term_of(catalog, chain)


def _chains(
    catalog: Catalog, *, customers: Collection[str] | None, contracts: Collection[str] | None
) -> Iterator[Chain[Contract]]:
    for contract in sorted(catalog.contracts if contracts is None else set(contracts)):
        chain = catalog.contracts.get(ContractId(contract))
        if chain is None or not chain.versions:
            continue
        if customers is None or chain.last.customer in customers:
            yield chain


class _Periods:
    """Billing periods, worked out once for contracts that share a calendar and a choice."""

    def __init__(self) -> None:
        self._found: dict[object, list[tuple[Period, date]]] = {}

    def of(self, term: Term, terms: Terms, chosen: Chosen) -> list[tuple[Period, date]]:
        """The wanted billing periods of ``terms``, each with the day it counts on."""
        usage = terms.kind is LineKind.USAGE
        key = (term.start, term.end, term.timezone.key, terms.invoicing, usage, chosen)
        if key not in self._found:
            since, until = chosen.window(term)
            periods = billing_periods(
                start=term.start,
                end=term.end,
                invoicing=terms.invoicing,
                timezone=term.timezone,
                since=since,
                until=until,
            )
            timing, zone = terms.invoicing.timing, term.timezone
            dated = (
                (period, accounting_date(period, timing=timing, usage=usage, timezone=zone))
                for period in periods
            )
            self._found[key] = [(p, day) for p, day in dated if chosen.wants(p, day)]
        return self._found[key]


def _parts(timelines: Timelines, term: Term, periods: _Periods, chosen: Chosen) -> Iterator[Part]:
    since, until = chosen.window(term)
    last = FOREVER if term.end is None else term.end
    if until <= term.start or last < since:
        return
    slots = timelines.slots(term, since=term.start, until=last)
    for slot, stretches in sorted(slots.items()):
        for run in _runs(stretches):
            for period, day in periods.of(term, run[0].terms, chosen):
                for stretch in _due(run, period):
                    yield _part(term, slot, stretch, period=period, accounting=day)


def _runs(stretches: list[Stretch]) -> Iterator[list[Stretch]]:
    """Stretches of a slot that share a cadence: they are parts of the same billing periods."""
    by_cadence: dict[object, list[Stretch]] = {}
    for stretch in stretches:
        key = (stretch.terms.invoicing, stretch.terms.kind)
        by_cadence.setdefault(key, []).append(stretch)
    yield from by_cadence.values()


def _due(run: list[Stretch], period: Period) -> Iterator[Stretch]:
    """The stretches that make a line in ``period``, cut to it: usage and prorated fees one each."""
    inside = [
        replace(
            stretch,
            start=max(stretch.start, period.start),
            end=min(stretch.end, period.end),
        )
        for stretch in run
        if stretch.start < period.end
        and period.start < stretch.end
        and _in_ramp(stretch.terms, period.index)
    ]
    for index, stretch in enumerate(inside):
        terms = stretch.terms
        if terms.kind is LineKind.USAGE or terms.prorate is not Prorate.NO:
            yield stretch
        elif _is_due(stretch, period, first=index == 0):
            yield replace(stretch, start=period.start, end=period.end)


def _is_due(stretch: Stretch, period: Period, *, first: bool) -> bool:
    """Whether a fixed fee that is not prorated, due once a period, is due under this stretch.

    In arrears under the terms at the period's end, in advance under those at its start; billed
    once, under the first terms there are.
    """
    match stretch.terms.invoicing.timing:
        case Timing.ARREARS:
            return stretch.end == period.end
        case Timing.ADVANCE:
            return stretch.start == period.start
        case Timing.ONCE:
            return first


def counted_within(term: Term, stretch: Stretch) -> tuple[Micros, Micros]:
    """The part of a stretch in which usage counts; none where its end is not after its start.

    Before ``after_months`` and out of a ramp it does not.
    """
    price, invoicing = stretch.terms.price, stretch.terms.invoicing
    begins = partial(period_start, start=term.start, invoicing=invoicing, timezone=term.timezone)
    since, until = stretch.start, stretch.end
    if invoicing.after_months or price.from_period is not None:
        since = max(since, begins(price.from_period or 1))
    if price.to_period is not None:
        until = min(until, begins(price.to_period + 1))
    return since, until


def _in_ramp(terms: Terms, index: int) -> bool:
    low, high = terms.price.from_period, terms.price.to_period
    return (low is None or low <= index) and (high is None or index <= high)


def _part(term: Term, slot: str, stretch: Stretch, *, period: Period, accounting: date) -> Part:
    terms = stretch.terms
    usage = terms.kind is LineKind.USAGE
    if usage and terms.invoicing.timing is Timing.ADVANCE:
        raise UsageInAdvance(
            f"contract {term.contract.id}: {terms.product} is metered and billed in advance; "
            "it needs a fixed quantity"
        )
    share_of = usage_share if usage else fee_share
    return Part(
        slot=slot,
        terms=terms,
        origin=stretch.origin,
        period=period,
        start=stretch.start,
        end=stretch.end,
        share=share_of(
            period, stretch.start, stretch.end, prorate=terms.prorate, timezone=term.timezone
        ),
        accounting=accounting,
        timezone=term.timezone,
        spans=_spans(term, stretch),
    )


def _spans(term: Term, stretch: Stretch) -> tuple[tuple[Micros, Micros], ...]:
    """The spans of tiers that the stretch meets, counted as billing periods of that length are."""
    months, invoicing = stretch.terms.price.tiers_span_months, stretch.terms.invoicing
    if months is None:
        return ()
    found = billing_periods(
        start=term.start,
        end=term.end,
        invoicing=Invoicing(
            timing=Timing.ARREARS,
            every=months,
            anchor=invoicing.anchor,
            after_months=invoicing.after_months,
        ),
        timezone=term.timezone,
        since=stretch.start,
        until=stretch.end,
    )
    return tuple((period.start, period.end) for period in found)
