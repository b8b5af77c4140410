"""Whose usage a customer pays for, when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from catalog.clock import Micros
from catalog.contracts import Customer
from catalog.ids import CustomerId, Subject
from catalog.periods import FOREVER
from catalog.snapshot import Catalog, Chain, resolve

ALWAYS = Micros(-(2**62))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A subject over ``[start, end)``. One subject's claims of one customer never overlap."""

    subject: Subject
    start: Micros
    end: Micros


def claims_of(catalog: Catalog, customer: CustomerId) -> list[Claim]:
    """Every claim of ``customer``, by subject and time; dates are read on the service's calendar.

    A customer's version claims only while it is in force.
    """
    chain = catalog.customers.get(customer)
    zone = catalog.timezone
    intervals: dict[Subject, list[tuple[Micros, Micros]]] = {}
    for version in chain.versions if chain else ():
        since, until = version.effective_from, version.effective_until
        low = ALWAYS if since is None else resolve(since, zone)
        high = FOREVER if until is None else resolve(until, zone)
        for claim in version.value.subjects:
            start = low if claim.since is None else max(low, resolve(claim.since, zone))
            end = high if claim.until is None else min(high, resolve(claim.until, zone))
            if start < end:
                intervals.setdefault(claim.subject, []).append((start, end))
    return [
        Claim(subject=subject, start=start, end=end)
        for subject in sorted(intervals)
        for start, end in _merged(intervals[subject])
    ]


def _plainly(chain: Chain[Customer]) -> list[Subject] | None:
    """The subjects of a customer who never claimed others and names no dates; null of others."""
    version = chain.versions[0]
    dates = (version.effective_from, version.effective_until)
    subjects = version.value.subjects
    if len(chain.versions) > 1 or dates != (None, None):
        return None
    if any(claim.since is not None or claim.until is not None for claim in subjects):
        return None
    return sorted({claim.subject for claim in subjects})


def claim_rows(
    catalog: Catalog, customers: Iterable[CustomerId]
) -> Iterator[tuple[int, Subject, Micros, Micros]]:
    """:func:`claims_of` each of ``customers``, told by their place, as plain rows.

    Most customers claim their subjects for good: of those no object is made.
    """
    for place, customer in enumerate(customers):
        chain = catalog.customers.get(customer)
        plainly = _plainly(chain) if chain and chain.versions else None
        if plainly is not None:
            for subject in plainly:
                yield place, subject, ALWAYS, Micros(FOREVER)
        else:
            for claim in claims_of(catalog, customer):
                yield place, claim.subject, claim.start, claim.end


def _merged(intervals: list[tuple[Micros, Micros]]) -> list[tuple[Micros, Micros]]:
    """Overlapping and touching intervals as one: nothing is counted twice."""
    merged: list[tuple[Micros, Micros]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
