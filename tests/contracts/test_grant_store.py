"""The store of grants behaves the same on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from catalog.clock import FixedClock
from catalog.errors import Conflict, NotFound
from catalog.ids import CustomerId
from catalog.pricebooks import Anchor
from storage.sql.database import Database
from storage.sql.grants import GrantStore
from storage.sql.schema import GRANTS
from tests.ledger_world import ACME, grant

CLOCK = FixedClock(1_000)


@pytest.fixture
def store(database: Database) -> GrantStore:
    """Grants at instant 1,000."""
    CLOCK.set(1_000)
    return GrantStore(database, CLOCK)


def test_what_was_stated_is_read_back(store: GrantStore, database: Database) -> None:
    """Exactly, by another process too; amounts are exact to the billionth."""
    stated = store.add(
        grant(
            "g",
            "99999999999999999.999999999",
            rollover_max="0.000000001",
            priority=-3,
            every_months=3,
            anchor=Anchor.CALENDAR,
        )
    )
    other = GrantStore(database, CLOCK)
    assert other.current().of(ACME) == (stated,)
    assert (stated.recorded_at, stated.revision) == (1_000, 1)
    assert other.revision() == 1
    assert other.current() is other.current()


def test_saying_it_again_changes_nothing(store: GrantStore) -> None:
    """A retry is the same grant; other content under its id is refused."""
    first = store.add(grant("g", "5"))
    CLOCK.set(2_000)
    assert store.add(grant("g", "5")) == first
    with pytest.raises(Conflict):
        store.add(grant("g", "6"))
    with pytest.raises(Conflict):
        store.add(replace(grant("g", "5"), customer=CustomerId("bolt")))
    assert store.revision() == 1


def test_revoking_is_a_row_of_its_own(store: GrantStore, database: Database) -> None:
    """The first instant stays, the first row too; a book that was read follows."""
    store.add(grant("g", "5"))
    store.add(grant("h", "6"))
    before = store.current()
    CLOCK.set(2_000)
    revoked = store.revoke(ACME, "g")
    CLOCK.set(3_000)
    assert store.revoke(ACME, "g") == revoked
    assert (revoked.recorded_at, revoked.revoked_at) == (1_000, 2_000)
    assert [one.revoked_at for one in store.current().of(ACME)] == [2_000, None]
    assert [one.revoked_at for one in before.of(ACME)] == [None, None]
    assert store.add(grant("g", "5")) == revoked
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(GRANTS)).scalar() == 3


def test_a_grant_of_another_customer_is_not_found(store: GrantStore) -> None:
    """Nobody ends what is not theirs."""
    store.add(grant("g", "5"))
    with pytest.raises(NotFound):
        store.revoke(CustomerId("bolt"), "g")
    with pytest.raises(NotFound):
        store.revoke(ACME, "nothing")


def test_rows_cannot_be_changed(store: GrantStore, database: Database) -> None:
    """The database itself refuses."""
    store.add(grant("g", "5"))
    for change in (sa.update(GRANTS).values(amount="6"), sa.delete(GRANTS)):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), database.write() as writer:
            writer.execute(change)
