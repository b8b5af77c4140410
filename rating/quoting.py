"""One contract alone, under a live catalog: which periods a quote is about, and what they bill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from catalog.clock import Micros
from catalog.errors import InvalidRequest
from catalog.ids import ContractId
from catalog.periods import FOREVER, PeriodSpec
from catalog.snapshot import Catalog
from rating.given import Given, counting, measure_given
from rating.pipeline import Asked, Rated, rated_lines
from rating.timeline import Term, term_of

DAYS_MAX = 366 * 10
"""The longest stretch a quote covers: it lists every billing period in it."""


def quoted_term(catalog: Catalog, contract: ContractId) -> Term:
    """The contract as rating reads it: its start, end and calendar."""
    return term_of(catalog, catalog.contracts[contract])


def first_instant(term: Term, period: PeriodSpec) -> Micros | None:
    """The first instant of ``period`` in which the contract is in force; null where it is not."""
    since, until = period.bounds(term.timezone)
    start, end = max(since, term.start), min(until, FOREVER if term.end is None else term.end)
    return Micros(start) if start < end else None


def quote(catalog: Catalog, given: Sequence[Given], periods: Sequence[PeriodSpec]) -> Rated:
    """The lines of the catalog's contracts for usage that is given, in the periods it is in.

    A billing period that holds usage is billed whole, also where it falls due later.

    Raises:
        NotQuotable, NotCovered, OutOfRange, InvalidRequest: the stretch is too long.
    """
    first = min(period.first for period in periods)
    dues = [plan.accounting for plans in counting(catalog, given) for plan in plans]
    due = max((day + timedelta(days=1) for day in dues if day.year < 9999), default=first)
    until = max(due, *(period.until for period in periods))
    if (until - first).days > DAYS_MAX or any(day.year == 9999 for day in dues):
        raise InvalidRequest(
            f"the usage is billed from {first} to {until}; a quote covers ten years at most"
            if all(day.year < 9999 for day in dues)
            else "the usage is billed once, at the end of a contract that has none: give it one"
        )
    spec = PeriodSpec(text=f"{first}/{until}", first=first, until=until)
    return rated_lines(catalog, Asked(period=spec, as_of=FOREVER), measure_given(given))
