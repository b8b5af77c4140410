"""Which allowances the catalog gives, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from catalog.clock import to_micros
from catalog.contracts import Amendment, Contract
from catalog.ids import PricebookId
from catalog.pricebooks import Entitlement, Invoicing, Pricebook, Timing
from catalog.snapshot import Catalog
from entitlements.grants import Schedule
from entitlements.schedules import CurrentSchedules, Schedules
from tests.ledger_world import ACME, SEATS, TOKENS, UNIT, catalog, chain, contract, right


def book(name: str, *rights: Entitlement) -> Pricebook:
    return Pricebook(
        id=PricebookId(name),
        currency="USD",
        invoicing=Invoicing(timing=Timing.ARREARS),
        prices=(),
        entitlements=rights,
    )


def listed(*books: Pricebook, contracts: list[Contract]) -> Catalog:
    return replace(catalog(*contracts), pricebooks={one.id: chain(one) for one in books})


def granted(schedule: Schedule, *when: int) -> int | None:
    """Units granted at an instant of 2026-27, null before there is a segment."""
    segment = schedule.segment_at(to_micros(datetime(*when, tzinfo=UTC)))
    return None if segment is None else sum(g.amount for g in segment.grants) // UNIT


def test_a_pricebooks_allowance_starts_and_ends_with_the_contract() -> None:
    """Nothing before the start, nothing from the end on; both at local midnight."""
    zoned = contract("k", start=date(2026, 3, 1), end=date(2026, 5, 1), timezone="Asia/Tokyo")
    state = listed(book("b", right()), contracts=[replace(zoned, pricebook=PricebookId("b"))])
    schedule = Schedules(state).of(ACME)[TOKENS]
    assert granted(schedule, 2026, 2, 28, 14, 59) is None
    assert granted(schedule, 2026, 2, 28, 15) == 100
    assert granted(schedule, 2026, 4, 30, 14, 59) == 100
    assert granted(schedule, 2026, 4, 30, 15) == 0


def test_a_contracts_own_entitlement_replaces_the_listed_one() -> None:
    """For the feature it names; the others stay as listed."""
    own = contract("k", right(amount="7"), pricebook=PricebookId("b"))
    seats = right(SEATS, None, value="true", every_months=None)
    state = listed(book("b", right(), seats), contracts=[own])
    schedules = Schedules(state).of(ACME)
    assert granted(schedules[TOKENS], 2026, 11, 2) == 7
    assert set(schedules) == {TOKENS, SEATS}


def test_an_amendment_changes_the_amount_and_keeps_what_was_burned() -> None:
    """The grant of the running month stays the same grant with another amount."""
    amended = contract(
        "k",
        pricebook=PricebookId("small"),
        amendments=(Amendment(effective_from=date(2026, 11, 11), pricebook=PricebookId("large")),),
    )
    state = listed(book("small", right()), book("large", right(amount="500")), contracts=[amended])
    schedule = Schedules(state).of(ACME)[TOKENS]
    before, after = (
        schedule.segment_at(to_micros(datetime(2026, 11, day, tzinfo=UTC))) for day in (10, 12)
    )
    assert [g.id for g in before.grants] == [g.id for g in after.grants]
    assert (before.grants[0].amount, after.grants[0].amount) == (100 * UNIT, 500 * UNIT)
    assert before.end == after.start


def test_months_are_counted_from_the_original_day() -> None:
    """31 January, 28 February, 31 March."""
    schedule = Schedules(catalog(contract("k", right(), start=date(2026, 1, 31)))).of(ACME)[TOKENS]
    first, until = (to_micros(datetime(2026, *d, tzinfo=UTC)) for d in ((1, 31), (5, 1)))
    starts = [segment.start for segment in schedule.segments(first, until)]
    days = [(1, 31), (2, 28), (3, 31), (4, 30)]
    assert starts == [to_micros(datetime(2026, *d, tzinfo=UTC)) for d in days]


def test_the_digest_moves_with_boundaries_and_not_with_amounts() -> None:
    """Usage is filed anew only where it would be filed elsewhere."""

    def digest(*contracts: Contract, **given) -> str:
        return Schedules(catalog(*contracts, **given)).of(ACME)[TOKENS].digest

    usual = digest(contract("k", right()))
    assert digest(contract("k", right(amount="9", rollover_max=Decimal(3), priority=4))) == usual
    assert digest(contract("k", right(every_months=2))) != usual
    assert digest(contract("k", right(), end=date(2027, 1, 1))) != usual
    moved = {"acme": ("acme", "team"), "bolt": ()}
    assert digest(contract("k", right()), customers=moved) != usual


def test_what_did_not_change_is_not_compiled_again() -> None:
    """A new revision keeps the schedules of customers it does not touch."""
    states = [catalog(contract("k", right()))]
    current = CurrentSchedules(lambda: states[-1])
    first = current().of(ACME)[TOKENS]
    other = catalog(contract("k", right()), contract("b", right(), customer="bolt"), revision=2)
    contracts = dict(other.contracts) | {c: states[0].contracts[c] for c in states[0].contracts}
    states.append(replace(other, contracts=contracts, customers=states[0].customers))
    assert current().of(ACME)[TOKENS] is first
    states.append(catalog(contract("k", right(amount="5")), revision=3))
    assert current().of(ACME)[TOKENS] is not first
