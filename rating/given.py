"""Usage that somebody gives as quantities, priced as if it had been counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial

import polars as pl

from catalog.charges import Dynamic, Matrix
from catalog.clock import Micros
from catalog.errors import DomainError
from catalog.ids import MeterId
from catalog.meters import Aggregation
from catalog.money import QUANTITY_DECIMALS, from_units
from catalog.periods import Period
from catalog.snapshot import Catalog
from rating.cells import CELLS
from rating.pieces import Measured
from rating.pipeline import Measuring, Prepared
from rating.plan import LinePlan, plan_lines
from rating.probes import Probe, Question
from rating.quantities import put_together
from rating.terms import Terms
from rating.timeline import Term


def _total(values: Sequence[Decimal]) -> Decimal:
    """Their exact sum, whatever the decimal context."""
    scale = 10**QUANTITY_DECIMALS
    return from_units(sum(int(Fraction(value) * scale) for value in values), QUANTITY_DECIMALS)


_ADDED: dict[Aggregation, Callable[[Sequence[Decimal]], Decimal]] = {
    Aggregation.SUM: _total,
    Aggregation.COUNT: _total,
    Aggregation.MAX: max,
    Aggregation.MIN: min,
    Aggregation.LATEST: lambda values: values[-1],
}
"""How the quantities of several periods become that of the line they are in; in order of time.

The others cannot be known from parts: an average of averages is no average.
"""


class NotQuotable(DomainError):
    """A quantity alone does not say what a price asks: when, in which events, at what cost."""

    code = "not_quotable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """So much of a meter at an instant. ``dimensions`` as FACTS write them."""

    meter: MeterId
    at: Micros
    quantity: Decimal
    dimensions: str


@dataclass(frozen=True, slots=True)
class Holding:
    """Billing periods that hold one of some instants."""

    instants: tuple[Micros, ...]

    def of(self, term: Term) -> Holding:
        """The same for every contract."""
        del term
        return self

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """From the first to the last."""
        del term
        return min(self.instants), Micros(max(self.instants) + 1)

    def wants(self, period: Period, accounting: date) -> bool:
        """Holding one."""
        del accounting
        return any(period.start <= instant < period.end for instant in self.instants)


def counting(catalog: Catalog, given: Sequence[Given]) -> list[list[LinePlan]]:
    """For each quantity, the plans that count its meter at its instant."""
    instants = tuple(sorted({each.at for each in given}))
    plans = plan_lines(catalog, Holding(instants)) if instants else []
    return [
        [
            plan
            for plan in plans
            if plan.start <= each.at < plan.end
            and each.meter in {meter.id for meter in plan.terms.counted}
        ]
        for each in given
    ]


def dimensions_read(terms: Terms) -> Collection[str]:
    """The dimensions that decide whether, in which group and by which row usage is priced."""
    charge = terms.price.charge
    rows = charge.rows if isinstance(charge, Matrix) else ()
    named = {key for row in rows for key, _ in row.when}
    return named | {condition.path for condition in terms.filter} | set(terms.price.group_by)


def asks_more(terms: Terms) -> str | None:
    """What a price asks beside a quantity, in words; null where a quantity is enough."""
    price = terms.price
    if price.hours:
        return "the hours of the day it was used in"
    if price.bucket is not None:
        return f"what was used in each {price.bucket}"
    if terms.per_event:
        return "each event by itself"
    if isinstance(price.charge, Dynamic):
        return "the cost that events name"
    return None


def measure_given(given: Sequence[Given]) -> Measuring:
    """A way to measure plans (:data:`rating.pipeline.Measuring`) from quantities that are given."""
    ordered = sorted(given, key=lambda each: each.at)
    return partial(_measured, ordered)


def _measured(given: Sequence[Given], prepared: Prepared) -> Measured:
    asked, plans = prepared.question, prepared.plans
    rows = [
        (index, group, row, 0, quantity, 1, 0, None)
        for index, probe in enumerate(asked.probes)
        for (group, row), quantity in _cells(probe, asked, given, plans[probe.line]).items()
    ]
    return put_together(plans, asked, pl.DataFrame(rows, schema=CELLS, orient="row"))


def _cells(
    probe: Probe, asked: Question, given: Sequence[Given], plan: LinePlan
) -> dict[tuple[str, int], Decimal]:
    """What one probe comes to, by group and row."""
    selector = asked.selectors[probe.selector]
    found: dict[tuple[str, int], list[Decimal]] = {}
    for each in given:
        if each.meter == probe.meter and probe.start <= each.at < probe.end:
            group = selector.group(each.dimensions)
            if group is not None:
                found.setdefault((group, selector.row(each.dimensions)), []).append(each.quantity)
    aggregation = asked.shapes[probe.shape].aggregation
    return {key: _together(aggregation, values, plan) for key, values in found.items()}


def _together(aggregation: Aggregation, values: Sequence[Decimal], plan: LinePlan) -> Decimal:
    if len(values) == 1:
        return values[0]
    if aggregation not in _ADDED:
        raise NotQuotable(
            f"product {plan.terms.product}: {len(values)} quantities of one line; "
            f"what they are together is not known for {aggregation.value}: give one"
        )
    return _ADDED[aggregation](values)
