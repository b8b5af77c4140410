"""Which customer pays for a subject, when: the claims of all customers as intervals."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import polars as pl

from catalog.clock import Micros, to_micros
from catalog.contracts import Contract, SubjectClaim
from catalog.events import INSTANT
from catalog.ids import CustomerId, Subject
from catalog.pricebooks import Moment
from catalog.snapshot import Catalog, Version, resolve

BEGINNING = to_micros(datetime.fromisoformat("1900-01-01T00:00:00+00:00"))
ENDLESS = to_micros(datetime.fromisoformat("9999-12-30T00:00:00+00:00"))
"""Open bounds as instants, beyond every event's time."""

T = TypeVar("T")

CLAIMS = pl.Schema(
    {"subject": pl.String(), "customer": pl.String(), "since": INSTANT, "until": INSTANT}
)
"""One row a stretch ``[since, until)`` in which ``customer`` pays for ``subject``; the stretches
of one subject never overlap. Open bounds are :data:`BEGINNING` and :data:`ENDLESS`."""


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """``customer`` pays for a subject in ``[since, until)``."""

    since: Micros
    until: Micros
    customer: CustomerId


class SubjectIndex:
    """Looks up the customer of a subject at an instant. Build once per catalog revision.

    Dates are midnights in the service's time zone. A claim holds while both it and the version
    of the customer that states it are in force.
    """

    def __init__(self, catalog: Catalog) -> None:
        found: defaultdict[Subject, list[Claim]] = defaultdict(list)
        for subject, claim in claims_of(catalog):
            found[subject].append(claim)
        self._claims = {subject: _merged(claims) for subject, claims in found.items()}

    def customer(self, subject: str, instant: int) -> CustomerId | None:
        """Who pays for ``subject`` at ``instant``, or None."""
        claims = self._claims.get(Subject(subject), ())
        place = bisect_right(claims, instant, key=lambda claim: claim.since)
        if place and instant < claims[place - 1].until:
            return claims[place - 1].customer
        return None

    def claims(self, subject: str) -> tuple[Claim, ...]:
        """Every claim on ``subject``, in order of time."""
        return self._claims.get(Subject(subject), ())

    def conflicts(self) -> Iterator[tuple[Subject, Claim, Claim]]:
        """Claims of two customers on one subject that overlap, the one that begins later last."""
        for subject, claims in self._claims.items():
            widest = claims[0]
            for claim in claims[1:]:
                if claim.since < widest.until and claim.customer != widest.customer:
                    yield subject, widest, claim
                widest = max(widest, claim, key=lambda held: held.until)

    def frame(self) -> pl.DataFrame:
        """All claims as CLAIMS, sorted by subject and ``since``."""
        rows = [
            (subject, claim.customer, claim.since, claim.until)
            for subject in sorted(self._claims)
            for claim in self._claims[subject]
        ]
        raw = {"subject": pl.String, "customer": pl.String, "since": pl.Int64, "until": pl.Int64}
        return pl.DataFrame(rows, schema=raw, orient="row").cast(CLAIMS)


def claims_of(catalog: Catalog) -> Iterator[tuple[Subject, Claim]]:
    """Every claim of every version of every customer, cut to when that version holds."""
    zone = catalog.timezone
    for customer, chain in catalog.customers.items():
        for version in chain.versions:
            begin, end = span(version, zone)
            for claim in version.value.subjects:
                since, until = _claim_span(claim, zone)
                since, until = max(begin, since), min(end, until)
                if since < until:
                    yield claim.subject, Claim(since, until, customer)


def contracts_by_customer(catalog: Catalog) -> dict[CustomerId, tuple[Contract, ...]]:
    """The contracts (every version of each) that name a customer, in order of id."""
    found: defaultdict[CustomerId, list[Contract]] = defaultdict(list)
    for contract in sorted(catalog.contracts):
        for value in catalog.contracts[contract].values:
            found[value.customer].append(value)
    return {customer: tuple(contracts) for customer, contracts in found.items()}


def span(version: Version[T], timezone: ZoneInfo) -> tuple[Micros, Micros]:
    """When a version holds, as instants."""
    return bounds(version.effective_from, version.effective_until, timezone)


def bounds(since: Moment | None, until: Moment | None, timezone: ZoneInfo) -> tuple[Micros, Micros]:
    """Two moments as instants, null ones as :data:`BEGINNING` and :data:`ENDLESS`."""
    return (
        BEGINNING if since is None else resolve(since, timezone),
        ENDLESS if until is None else resolve(until, timezone),
    )


def _claim_span(claim: SubjectClaim, timezone: ZoneInfo) -> tuple[Micros, Micros]:
    return bounds(claim.since, claim.until, timezone)


def _merged(claims: list[Claim]) -> tuple[Claim, ...]:
    """Claims in order of time, a customer's that touch or overlap as one."""
    found: list[Claim] = []
    for claim in sorted(claims):
        last = found[-1] if found else None
        if last and last.customer == claim.customer and claim.since <= last.until:
            found[-1] = Claim(last.since, max(last.until, claim.until), claim.customer)
        else:
            found.append(claim)
    return tuple(found)
