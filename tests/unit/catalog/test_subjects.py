"""Who pays for a subject, when."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.clock import Micros, to_datetime
from catalog.contracts import Customer, SubjectClaim
from catalog.ids import CustomerId, Subject
from catalog.snapshot import Catalog, Chain, Version, resolve
from catalog.subjects import BEGINNING, CLAIMS, ENDLESS, SubjectIndex, contracts_by_customer
from tests.strategies import Tree, catalog_of

ZONE = ZoneInfo("America/New_York")
CUSTOMERS: Tree = {
    "acme": {"name": "Acme", "subjects": ["a", {"subject": "s", "until": "2026-03-01"}]},
    "bolt": {"name": "Bolt", "subjects": [{"subject": "s", "from": "2026-03-01"}]},
    "cara": {
        "versions": [
            {"name": "Cara", "subjects": ["c"]},
            {"name": "Cara", "subjects": ["c", "d"], "effective_from": "2026-05-01"},
            {"name": "Cara", "subjects": ["d"], "effective_from": "2026-06-01"},
        ]
    },
}


def test_a_subject_changes_hands_at_local_midnight():
    """A date bound is the midnight of the service's calendar; the end is exclusive."""
    index = SubjectIndex(catalog_of({"customers": CUSTOMERS}, timezone=ZONE))
    midnight = resolve(date(2026, 3, 1), ZONE)
    assert index.customer("s", midnight - 1) == "acme"
    assert index.customer("s", midnight) == "bolt"
    assert index.customer("a", 0) == "acme"
    assert index.customer("nobody", midnight) is None
    assert list(index.conflicts()) == []


def test_claims_follow_the_versions_of_the_customer():
    """A claim holds only while the version that states it does; neighbours are one stretch."""
    index = SubjectIndex(catalog_of({"customers": CUSTOMERS}, timezone=ZONE))
    may, june = resolve(date(2026, 5, 1), ZONE), resolve(date(2026, 6, 1), ZONE)
    assert [(c.since, c.until) for c in index.claims("c")] == [(BEGINNING, june)]
    assert [(c.since, c.until) for c in index.claims("d")] == [(may, ENDLESS)]


def test_the_frame_has_one_row_a_stretch():
    """The frame carries the same stretches for joins, sorted, typed as promised."""
    index = SubjectIndex(catalog_of({"customers": CUSTOMERS}, timezone=ZONE))
    frame = index.frame()
    midnight = to_datetime(resolve(date(2026, 3, 1), ZONE))
    assert frame.schema == CLAIMS
    assert frame["subject"].to_list() == ["a", "c", "d", "s", "s"]
    assert frame.filter(pl.col("subject") == "s").rows() == [
        ("s", "acme", to_datetime(BEGINNING), midnight),
        ("s", "bolt", midnight, to_datetime(ENDLESS)),
    ]
    assert SubjectIndex(Catalog()).frame().schema == CLAIMS


days = st.dates(date(2026, 1, 1), date(2026, 1, 9))
claims = st.builds(
    lambda subject, bounds: SubjectClaim(
        subject=Subject(subject), since=bounds[0], until=bounds[1]
    ),
    st.sampled_from("st"),
    st.tuples(st.none() | days, st.none() | days).filter(
        lambda pair: pair[0] is None or pair[1] is None or pair[0] < pair[1]
    ),
)


@given(held=st.lists(st.lists(claims, max_size=3), max_size=3))
@settings(max_examples=200, deadline=None)
def test_conflicts_are_exactly_the_days_with_two_payers(held: list[list[SubjectClaim]]):
    """A conflict is found iff on some day two customers claim one subject."""
    customers = {
        CustomerId(f"c{number}"): Chain(
            versions=(
                Version(
                    value=Customer(id=CustomerId(f"c{number}"), name="C", subjects=tuple(subjects)),
                    effective_from=None,
                    effective_until=None,
                    recorded_at=Micros(0),
                    revision=1,
                ),
            )
        )
        for number, subjects in enumerate(held)
    }
    index = SubjectIndex(Catalog(customers=customers))
    payers = [
        {
            number
            for number, subjects in enumerate(held)
            for claim in subjects
            if claim.subject == subject
            and (claim.since is None or claim.since <= day)
            and (claim.until is None or day < claim.until)
        }
        for subject in "st"
        for day in [date(2025, 12, 31), *(date(2026, 1, d) for d in range(1, 11))]
    ]
    assert any(index.conflicts()) == any(len(found) > 1 for found in payers)


def test_contracts_are_found_by_the_customer_they_name():
    """Every version counts: a contract that moved is listed with both customers."""
    terms = {"currency": "USD", "invoicing": {"timing": "once"}, "start": "2026-01-01"}
    tree = {
        "customers": CUSTOMERS,
        "contracts": {
            "k": {
                "versions": [
                    {"customer": "acme", **terms},
                    {"customer": "bolt", **terms, "effective_from": "2026-04-01"},
                ]
            },
            "j": {"customer": "acme", **terms},
        },
    }
    found = contracts_by_customer(catalog_of(tree))
    assert {c: [k.id for k in ks] for c, ks in found.items()} == {"acme": ["j", "k"], "bolt": ["k"]}
