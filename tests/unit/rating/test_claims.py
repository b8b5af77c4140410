"""Whose usage a customer pays for: claims over versions, merged so that nothing counts twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from catalog.clock import to_datetime
from catalog.contracts import Customer, SubjectClaim
from catalog.ids import CustomerId, Subject
from catalog.periods import FOREVER
from catalog.snapshot import Catalog, Chain, Version
from rating.claims import ALWAYS, claims_of


def claim(since: int | None, until: int | None, subject: str = "s") -> SubjectClaim:
    """A claim from one day of January 2026 to another."""
    days = [None if day is None else date(2026, 1, day) for day in (since, until)]
    return SubjectClaim(subject=Subject(subject), since=days[0], until=days[1])


def found(*versions: tuple[int | None, int | None, list[SubjectClaim]]) -> list[tuple]:
    """(subject, first day, day after the last) of the customer's claims; null where open."""
    chain = Chain(
        versions=tuple(
            Version(
                value=Customer(id=CustomerId("c"), name="C", subjects=tuple(claims)),
                effective_from=None if since is None else date(2026, 1, since),
                effective_until=None if until is None else date(2026, 1, until),
                recorded_at=0,
                revision=1,
            )
            for since, until, claims in versions
        )
    )
    catalog = replace(Catalog(), customers={CustomerId("c"): chain})
    return [
        (
            c.subject,
            None if c.start == ALWAYS else to_datetime(c.start).day,
            None if c.end == FOREVER else to_datetime(c.end).day,
        )
        for c in claims_of(catalog, CustomerId("c"))
    ]


def test_overlapping_and_touching_claims_are_one():
    """A span's intervals of one subject may not overlap, or its usage would count twice."""
    claims = [claim(1, 5), claim(3, 8), claim(8, 10), claim(12, None), claim(20, 25)]
    assert found((None, None, claims)) == [("s", 1, 10), ("s", 12, None)]


def test_a_version_claims_only_while_it_is_in_force():
    """A subject moved by a later version of the customer is claimed until then."""
    first, second = [claim(None, None)], [claim(None, None, "t"), claim(None, 20)]
    assert found((None, 10, first), (15, None, second)) == [
        ("s", None, 10),
        ("s", 15, 20),
        ("t", 15, None),
    ]


def test_nobody_claims_nothing():
    """A customer that is not there has no claims."""
    assert claims_of(Catalog(), CustomerId("c")) == []
