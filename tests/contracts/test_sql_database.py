"""Opening, migrating and writing a database behaves the same on SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from catalog.clock import FixedClock
from catalog.errors import Conflict, NotFound
from catalog.ids import NodeId
from catalog.keys import KeyId, KeyRecord, Scope
from storage.sql.database import Database, DatabaseTooNew, DatabaseUnavailable, open_database
from storage.sql.keys import KeyStore
from storage.sql.meta import MetaStore
from storage.sql.nodes import NodeRegistry, NodeTaken
from storage.sql.schema import METADATA
from tests.sql import fresh_url

OPENING = """
import sys
from storage.sql.database import open_database
from storage.sql.meta import MetaStore
print("ready", flush=True)
sys.stdin.readline()
database = open_database(sys.argv[1])
print(MetaStore(database).claim("winner", sys.argv[2]))
database.close()
"""


def key(name: str, *, digest: bytes | None = None, scopes: set[Scope] | None = None) -> KeyRecord:
    """A key made at instant 5."""
    return KeyRecord(
        id=KeyId(name),
        digest=digest or name.encode().ljust(32, b"\0"),
        name=f"the key {name}",
        scopes=frozenset(scopes or {Scope.READ}),
        created_at=FixedClock(5).now_us(),
    )


def test_migrations_make_the_tables_the_code_reads(database: Database) -> None:
    """Nobody changed schema.py without a migration, or the other way round."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_a_newer_database_is_refused(url: str) -> None:
    """A schema of the future is not read, and not changed either."""
    opened = open_database(url)
    with opened.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    opened.close()
    with pytest.raises(DatabaseTooNew, match="9999"):
        open_database(url)
    with pytest.raises(DatabaseTooNew, match="9999"):
        open_database(url)


def test_processes_may_open_an_empty_database_at_once(url: str) -> None:
    """One of them migrates; all of them work, and agree on what was claimed first."""
    starters = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPENING, url, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=60) for starter in starters]
    assert [errors for _, errors in answers] == ["", "", ""]
    assert len({winner for winner, _ in answers}) == 1


def test_writers_take_turns(database: Database) -> None:
    """Read-then-write inside one write transaction loses no update among threads."""
    store = MetaStore(database)
    store.put("count", "0")

    def count_one_up(_turn: int) -> None:
        with database.write() as connection:
            found = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'count'")
            larger = int(found.scalar_one()) + 1
            connection.exec_driver_sql(f"UPDATE meta SET value = '{larger}' WHERE key = 'count'")

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(count_one_up, range(80)))
    assert store.get("count") == "80"


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    """An exception inside a write transaction rolls all of it back."""

    def fail_half_way() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO meta (key, value) VALUES ('a', 'b')")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_half_way()
    assert MetaStore(database).get("a") is None


def test_what_cannot_be_reached_says_so(tmp_path: Path) -> None:
    """A database that is not there is a named, temporary failure on both engines."""
    nowhere = tmp_path / "missing"
    for url in (f"sqlite:///{nowhere}/x.sqlite", f"postgresql://u@/x?host={nowhere}"):
        with pytest.raises(DatabaseUnavailable, match="cannot answer"):
            open_database(url)


def test_a_server_that_is_gone_without_a_word_is_noticed(tmp_path: Path) -> None:
    """PostgreSQL: a lost machine ends a call and an idle connection, both within a minute."""
    with fresh_url("postgresql", tmp_path) as url:
        database = open_database(url)
        with database.read() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            found = driver.info.get_parameters()
        database.close()
    assert int(found["tcp_user_timeout"]) <= 60_000
    idle, interval, count = (int(found[f"keepalives_{n}"]) for n in ("idle", "interval", "count"))
    assert idle + interval * count <= 60


def test_other_engines_are_refused() -> None:
    """Only the two engines the tests run on are accepted."""
    with pytest.raises(ValueError, match="neither SQLite nor PostgreSQL"):
        open_database("mysql://localhost/x")


def test_statements_cannot_be_rewritten(database: Database) -> None:
    """The database itself refuses to change or remove what was stated."""
    insert = (
        "INSERT INTO statements (revision, kind, id, recorded_at, retired, whole_chain, versions)"
        " VALUES (1, 'meters', 'm', 1, false, true, '[]')"
    )
    with database.write() as connection:
        connection.exec_driver_sql(insert)
    for change in ("UPDATE statements SET id = 'x'", "DELETE FROM statements"):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), database.write() as writer:
            writer.exec_driver_sql(change)


def test_meta_keeps_the_first_claim(database: Database) -> None:
    """A put overwrites, claim does not."""
    store = MetaStore(database)
    assert store.get("sandbox") is None
    assert store.claim("sandbox", "yes") == "yes"
    assert store.claim("sandbox", "no") == "yes"
    store.put("sandbox", "no")
    assert store.get("sandbox") == "no"


def test_a_node_registers_once_and_retires_once(database: Database) -> None:
    """Registration is idempotent; the first retirement is the one that stays."""
    clock = FixedClock(10)
    registry = NodeRegistry(database, clock)
    registry.register(NodeId("n1"), "log-a")
    clock.set(20)
    registry.register(NodeId("n1"), "log-a")
    registry.register(NodeId("n2"), "log-b")
    assert [(each.node, each.registered_at) for each in registry.nodes()] == [
        ("n1", 10),
        ("n2", 20),
    ]
    registry.retire(NodeId("n1"))
    clock.set(30)
    registry.retire(NodeId("n1"))
    assert [each.node for each in registry.nodes()] == ["n2"]
    assert [each.retired_at for each in registry.nodes(retired=True)] == [20, None]
    with pytest.raises(NotFound):
        registry.retire(NodeId("n3"))


def test_a_name_belongs_to_one_log(database: Database) -> None:
    """A second log directory cannot take a live node's name, but may take a retired one's."""
    registry = NodeRegistry(database, FixedClock(10))
    registry.register(NodeId("n1"), "log-a")
    with pytest.raises(NodeTaken, match="n1"):
        registry.register(NodeId("n1"), "log-b")
    registry.retire(NodeId("n1"))
    registry.register(NodeId("n1"), "log-b")
    assert [(each.instance, each.retired_at) for each in registry.nodes()] == [("log-b", None)]


def test_keys_come_back_as_they_were(database: Database) -> None:
    """Scopes, bytes and instants survive; every change moves the revision."""
    store = KeyStore(database, FixedClock(50))
    assert (store.all(), store.revision()) == ([], 0)
    first = key("one", scopes={Scope.ADMIN, Scope.INGEST})
    store.add(first)
    store.add(first)
    assert (store.all(), store.revision()) == ([first], 1)
    store.add(key("two"))
    store.revoke(KeyId("one"))
    revision = store.revision()
    assert revision == 3
    store.revoke(KeyId("one"))
    assert store.revision() == revision
    assert [(each.id, each.revoked_at) for each in store.all()] == [("one", 50), ("two", None)]
    with pytest.raises(NotFound):
        store.revoke(KeyId("three"))


def test_keys_do_not_collide(database: Database) -> None:
    """Neither an id nor a digest can come to mean two keys."""
    store = KeyStore(database, FixedClock(50))
    store.add(key("one"))
    with pytest.raises(Conflict):
        store.add(key("one", digest=b"other".ljust(32)))
    with pytest.raises(Conflict):
        store.add(key("two", digest=key("one").digest))
    assert [each.id for each in store.all()] == ["one"]
