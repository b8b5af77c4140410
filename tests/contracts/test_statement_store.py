"""The statement store keeps its promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from catalog.clock import FixedClock, Micros
from catalog.history import Kind, NewStatement, StatedVersion, build_catalog
from storage.sql.database import Database, open_database
from storage.sql.statements import SNAPSHOTS_MAX, RevisionChanged, StatementStore

UTC_ZONE = ZoneInfo("UTC")
APPENDING = """
import sys
from zoneinfo import ZoneInfo
from catalog.clock import FixedClock
from catalog.history import Kind, NewStatement, StatedVersion
from storage.sql.database import open_database
from storage.sql.statements import StatementStore
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = open_database(url)
store = StatementStore(database, FixedClock(1_000), ZoneInfo("UTC"))
body = {"event_type": name, "aggregation": "count"}
version = StatedVersion(effective_from=None, effective_until=None, body=body)
for index in range(count):
    new = NewStatement(kind=Kind.METERS, id=f"{name}{index}", versions=(version,))
    store.append([new, new], expected_revision=None)
database.close()
"""


@pytest.fixture
def clock() -> FixedClock:
    """A clock at instant 1,000."""
    return FixedClock(1_000)


@pytest.fixture
def store(database: Database, clock: FixedClock) -> StatementStore:
    """The store under test, empty."""
    return StatementStore(database, clock, UTC_ZONE)


def meter(name: str = "m", *, event_type: str = "t", since: date | None = None) -> NewStatement:
    """A statement of a meter that counts ``event_type``."""
    body = {"event_type": event_type, "aggregation": "count"}
    version = StatedVersion(effective_from=since, effective_until=None, body=body)
    whole = since is None
    return NewStatement(kind=Kind.METERS, id=name, whole_chain=whole, versions=(version,))


def event_types(store: StatementStore, recorded_at: int, name: str = "m") -> list[tuple[str, ...]]:
    """What the versions of a meter counted, as recorded at an instant."""
    chain = store.as_of(Micros(recorded_at)).meters.get(name)
    return [] if chain is None else [version.value.event_types for version in chain.versions]


def test_an_empty_store_has_an_empty_catalog(store: StatementStore) -> None:
    """Revision 0 is the empty catalog, at any instant, in the service's time zone."""
    assert store.revision() == 0
    assert (store.current().revision, dict(store.current().meters)) == (0, {})
    assert store.as_of(Micros(10**15)).timezone == UTC_ZONE
    assert store.append([], expected_revision=0) == 0


def test_statements_come_back_as_they_were_given(store: StatementStore) -> None:
    """Texts, order of keys, dates and instants survive the store."""
    body = {"name": "Zürich\x7f\u0000 \"'", "z": "0.10", "a": {"b": ["1", True, None, 3]}}
    versions = (
        StatedVersion(effective_from=None, effective_until=date(2026, 3, 29), body=body),
        StatedVersion(
            effective_from=datetime(2026, 4, 1, 10, 0, 0, 123456, tzinfo=UTC),
            effective_until=None,
            body={},
        ),
    )
    new = NewStatement(kind=Kind.PRODUCTS, id="p", versions=versions)
    store.append([new, NewStatement(kind=Kind.PRODUCTS, id="p", retired=True)], expected_revision=0)
    first, second = store.statements(Kind.PRODUCTS, "p")
    assert first.versions == versions
    assert list(first.versions[0].body) == ["name", "z", "a"]
    assert (first.retired, first.whole_chain, first.revision, first.recorded_at) == (
        False,
        True,
        1,
        1_000,
    )
    assert (second.retired, second.versions, second.revision) == (True, (), 2)
    assert store.statements(Kind.METERS, "p") == ()


def test_an_append_has_one_recorded_instant(store: StatementStore, clock: FixedClock) -> None:
    """No ``as_of`` can see half of what was stated together."""
    store.append([meter("a"), meter("b")], expected_revision=None)
    clock.set(2_000)
    store.append([meter("a", event_type="u"), meter("b", event_type="u")], expected_revision=None)
    for recorded_at, expected in (
        (999, []),
        (1_000, [("t",)]),
        (1_999, [("t",)]),
        (2_000, [("u",)]),
    ):
        assert event_types(store, recorded_at, "a") == expected
        assert event_types(store, recorded_at, "b") == expected


def test_recorded_instants_increase_when_the_clock_does_not(
    store: StatementStore, clock: FixedClock
) -> None:
    """A clock that stands still or steps back never puts a statement before an earlier one."""
    for now in (1_000, 1_000, 400):
        clock.set(now)
        store.append([meter()], expected_revision=None)
    assert [each.recorded_at for each in store.statements(Kind.METERS, "m")] == [
        1_000,
        1_001,
        1_002,
    ]


def test_an_instant_already_answered_stays_in_the_past(store: StatementStore) -> None:
    """``after`` keeps what was read as of then as it was."""
    store.append([meter()], expected_revision=None)
    before = store.as_of(Micros(5_000))
    store.append([meter(event_type="u")], expected_revision=None, after=Micros(5_000))
    assert store.as_of(Micros(5_000)) == before
    assert event_types(store, 5_001) == [("u",)]


def test_a_plan_on_an_old_revision_is_refused(store: StatementStore) -> None:
    """Of two writers that read the same catalog only the first is kept."""
    revision = store.revision()
    assert store.append([meter("a")], expected_revision=revision) == 1
    with pytest.raises(RevisionChanged, match="revision 1, not 0"):
        store.append([meter("b")], expected_revision=revision)
    assert store.revision() == 1
    assert store.append([meter("b")], expected_revision=1) == 2


def test_a_refused_statement_takes_the_whole_append_with_it(store: StatementStore) -> None:
    """What cannot be written as JSON stores nothing of its append."""
    bad = NewStatement(
        kind=Kind.METERS,
        id="bad",
        versions=(StatedVersion(effective_from=None, effective_until=None, body={"x": object()}),),
    )
    with pytest.raises(TypeError):
        store.append([meter(), bad], expected_revision=None)
    assert store.revision() == 0


def test_snapshots_do_not_depend_on_how_they_were_reached(
    database: Database, store: StatementStore, clock: FixedClock
) -> None:
    """A snapshot extended from an earlier one equals one built from everything."""
    for step in range(SNAPSHOTS_MAX * 2):
        clock.set(10_000 + step * 1_000)
        name = f"m{step % 3}"
        since = date(2026, 1, 1 + step) if step % 2 else None
        new = meter(name, event_type=f"t{step}", since=since)
        if step % 5 == 4:
            new = NewStatement(kind=Kind.METERS, id=name, retired=True)
        store.append([new], expected_revision=step)
        assert store.current().revision == step + 1
    everything = [
        each for name in ("m0", "m1", "m2") for each in store.statements(Kind.METERS, name)
    ]
    everything.sort(key=lambda each: each.revision)
    fresh = StatementStore(database, clock, UTC_ZONE)
    for revision in (16, 3, 9, 1, 14):
        at = Micros(10_000 + (revision - 1) * 1_000)
        expected = build_catalog(everything[:revision], timezone=UTC_ZONE)
        assert store.as_of(at) == expected
        assert fresh.as_of(at) == expected


def test_a_snapshot_is_built_once(store: StatementStore) -> None:
    """Readers of one revision share one catalog object."""
    store.append([meter()], expected_revision=None)
    assert store.current() is store.current()
    assert store.as_of(Micros(10**12)) is store.current()


def test_another_process_is_seen(url: str, store: StatementStore) -> None:
    """What one process appends, the next question of another sees."""
    other = open_database(url)
    StatementStore(other, FixedClock(5_000), UTC_ZONE).append([meter()], expected_revision=0)
    other.close()
    assert store.revision() == 1
    assert set(store.current().meters) == {"m"}


def test_processes_append_one_after_the_other(
    url: str, database: Database, store: StatementStore
) -> None:
    """Two processes and a thread pool at once: no number twice, no gap, instants increasing."""
    writers = [
        subprocess.Popen([sys.executable, "-c", APPENDING, url, name, "15"]) for name in ("x", "y")
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        names = [f"z{index}" for index in range(15)]
        list(pool.map(lambda name: store.append([meter(name)], expected_revision=None), names))
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with database.read() as connection:
        query = "SELECT revision, recorded_at FROM statements ORDER BY revision"
        rows = connection.execute(sa.text(query)).all()
    assert [row[0] for row in rows] == list(range(1, 2 * 30 + 15 + 1))
    instants = [row[1] for row in rows]
    assert instants == sorted(instants)
    assert len(set(instants)) == 45
    assert len(store.current().meters) == 45


def test_optimistic_appends_lose_nothing(store: StatementStore) -> None:
    """Readers that retry on a conflict all get their statement in, exactly once."""

    def state(name: str) -> int:
        conflicts = 0
        while True:
            try:
                store.append([meter(name)], expected_revision=store.revision())
            except RevisionChanged:
                conflicts += 1
            else:
                return conflicts

    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(state, [f"m{index}" for index in range(24)]))
    assert store.revision() == 24
    assert len(store.current().meters) == 24


def test_the_actor_is_kept_for_the_audit(database: Database, store: StatementStore) -> None:
    """Each statement names the key that made it."""
    store.append([meter()], expected_revision=None, actor="key1")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT actor FROM statements").scalar_one() == "key1"
