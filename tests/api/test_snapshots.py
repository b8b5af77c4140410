"""The gateway's snapshots of SQL, over a real database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from api.snapshots import Snapshots
from catalog.clock import FixedClock, Micros
from catalog.errors import Unavailable
from catalog.keys import KeyId, KeyRecord, Scope, key_digest
from catalog.snapshot import Catalog
from storage.sql.database import Database, open_database
from storage.sql.keys import KeyStore
from storage.sql.statements import StatementStore

CLOCK = FixedClock(1_000)


class Counted:
    """A statement store that counts the looks and can be told to be away."""

    def __init__(self, store: StatementStore) -> None:
        self._store = store
        self.looks = 0
        self.away = False
        self.answers = threading.Event()
        self.answers.set()

    def revision(self) -> int:
        """Count the look."""
        self.looks += 1
        assert self.answers.wait(10)
        if self.away:
            raise Unavailable("away")
        return self._store.revision()

    def current(self) -> Catalog:
        """The catalog."""
        return self._store.current()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh database."""
    database = open_database(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield database
    database.close()


def snapshots_of(database: Database) -> tuple[Snapshots, Counted, KeyStore]:
    """Snapshots of a database, and what they look at."""
    keys = KeyStore(database, CLOCK)
    catalog = Counted(StatementStore(database, CLOCK, ZoneInfo("UTC")))
    return Snapshots(catalog=catalog, keys=keys, clock=CLOCK, poll_s=0.01), catalog, keys


def key(name: str) -> KeyRecord:
    """A key that may read."""
    return KeyRecord(
        id=KeyId(name),
        digest=key_digest(name),
        name=name,
        scopes=frozenset({Scope.READ}),
        created_at=Micros(1),
    )


async def test_a_refresh_sees_what_was_committed_before_it(database: Database) -> None:
    """Keys that are added work, keys that are revoked stop working."""
    snapshots, _, keys = snapshots_of(database)
    assert snapshots.failure is not None
    keys.add(key("a"))
    await snapshots.refresh()
    assert snapshots.failure is None
    assert snapshots.keyring.find("a") is not None

    keys.revoke(KeyId("a"))
    await snapshots.refresh()

    assert snapshots.keyring.find("a") is None


async def test_the_poll_follows_by_itself(database: Database) -> None:
    """Nobody has to ask."""
    snapshots, _, keys = snapshots_of(database)
    polling = asyncio.create_task(snapshots.poll())
    keys.add(key("b"))
    async with asyncio.timeout(5):
        while snapshots.keyring.find("b") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    polling.cancel()


async def test_refreshes_at_once_share_a_look(database: Database) -> None:
    """A burst of writes costs two looks, not one each; each still sees what preceded it."""
    snapshots, catalog, keys = snapshots_of(database)
    keys.add(key("c"))

    await asyncio.gather(*(snapshots.refresh() for _ in range(50)))

    assert catalog.looks <= 2
    assert snapshots.keyring.find("c") is not None


async def test_the_last_snapshot_stays_while_sql_is_away(database: Database) -> None:
    """Requests go on with what was known; readiness names the failure, until it is back."""
    snapshots, catalog, keys = snapshots_of(database)
    keys.add(key("d"))
    await snapshots.refresh()
    catalog.away = True
    await snapshots.refresh()

    assert snapshots.failure == "Unavailable"
    assert snapshots.keyring.find("d") is not None
    catalog.away = False
    await snapshots.refresh()
    assert snapshots.failure is None


async def test_sql_that_never_answers_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs is not ready, though no error ever came; an answer makes it ready."""
    monkeypatch.setattr("api.snapshots.LOOK_S_MAX", 0.05)
    snapshots, catalog, _ = snapshots_of(database)
    await snapshots.refresh()
    catalog.answers.clear()
    looking = asyncio.create_task(snapshots.refresh())
    await asyncio.sleep(0.2)
    failure = snapshots.failure
    catalog.answers.set()
    await looking

    assert failure == "TimeoutError"
    assert snapshots.failure is None


async def test_guessing_keys_does_not_hammer_sql(database: Database) -> None:
    """Unknown keys make the gateway look, but only so often."""
    snapshots, catalog, _ = snapshots_of(database)
    for _ in range(100):
        await snapshots.refresh_for_unknown_key()

    assert catalog.looks < 20
