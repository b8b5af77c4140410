"""The audit log on both SQL engines: one entry a change, none without one, nothing rewritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import sqlalchemy as sa

from catalog.clock import FixedClock, Micros
from catalog.errors import DomainError
from catalog.history import Kind, NewStatement, StatedVersion
from catalog.ids import CustomerId, FeatureId, NodeId
from catalog.keys import KeyId, KeyRecord, Scope
from catalog.periods import FOREVER
from entitlements.given import GivenGrant, GrantId
from invoicing.ports import BooksChanged, DocumentKind
from storage.clock import FileClock
from storage.sql.audit import AuditEntry, AuditLog, AuditQuery, Change
from storage.sql.books import SqlBooks
from storage.sql.database import Database
from storage.sql.exports import LINES, ExportStore
from storage.sql.grants import GrantStore
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.schema import AUDIT
from storage.sql.statements import StatementStore
from tests.closed_lines import document, entry, month, open_lines

CLOCK = FixedClock(1_000)
KEY = KeyRecord(
    id=KeyId("k1"),
    digest=b"\1" * 32,
    name="reader",
    scopes=frozenset({Scope.READ}),
    created_at=Micros(1),
)
GRANT = GivenGrant(
    id=GrantId("g1"),
    customer=CustomerId("acme"),
    feature=FeatureId("calls"),
    amount=5 * 10**9,
    priority=0,
    effective=Micros(1),
    expires=Micros(FOREVER),
    rollover_max=None,
    recorded_at=Micros(1),
)


@pytest.fixture
def audit(database: Database) -> AuditLog:
    """Its audit log."""
    return AuditLog(database)


def entries(audit: AuditLog) -> list[AuditEntry]:
    """All of them, oldest first."""
    return list(audit.page(AuditQuery(), limit=1_000))[::-1]


def told(audit: AuditLog) -> list[tuple[str, str, str, str]]:
    """Who did what to whom, oldest first."""
    return [(each.actor, each.kind, each.subject, each.action) for each in entries(audit)]


def test_keys(database: Database, audit: AuditLog) -> None:
    """Made and revoked once; the same again, and what is refused, is no change."""
    keys = KeyStore(database, CLOCK)
    for _ in range(2):
        keys.add(KEY, actor="admin")
    with pytest.raises(DomainError):
        keys.add(replace(KEY, digest=b"\2" * 32), actor="admin")
    for _ in range(2):
        keys.revoke(KeyId("k1"))
    with pytest.raises(DomainError):
        keys.revoke(KeyId("none"), actor="admin")
    assert told(audit) == [("admin", "keys", "k1", "create"), ("cli", "keys", "k1", "revoke")]
    assert KEY.digest.hex() not in str(entries(audit))


def test_the_catalog(database: Database, audit: AuditLog) -> None:
    """One entry a statement; the digest tells whether two versions are the same."""
    store = StatementStore(database, CLOCK, ZoneInfo("UTC"))
    one = [statement("a", "A"), statement("b", "B")]
    store.append(one, expected_revision=0, actor="k")
    store.append([statement("a", "A")], expected_revision=2, actor="k")
    store.append([statement("a", "Z")], expected_revision=3, actor="k")
    with pytest.raises(DomainError):
        store.append([statement("a", "X")], expected_revision=0, actor="k")
    store.append([], expected_revision=4, actor="k")
    found = entries(audit)
    assert [each.subject for each in found] == ["a", "b", "a", "a"]
    first, _, same, other = [each.digest for each in found]
    assert first == same != other
    assert [each.summary["revision"] for each in found] == [1, 2, 3, 4]
    assert [each.recorded_at for each in found] == [1_000, 1_000, 1_001, 1_002]


def statement(name: str, text: str) -> NewStatement:
    """A product's name, stated."""
    version = StatedVersion(effective_from=None, effective_until=None, body={"name": text})
    return NewStatement(kind=Kind.PRODUCTS, id=name, versions=(version,))


def test_grants(database: Database, audit: AuditLog) -> None:
    """Granted and revoked; a retry is no change, a contradiction neither."""
    store = GrantStore(database, CLOCK)
    for _ in range(2):
        store.add(GRANT, actor="k")
    with pytest.raises(DomainError):
        store.add(replace(GRANT, amount=1), actor="k")
    for _ in range(2):
        store.revoke(CustomerId("acme"), GrantId("g1"), actor="k")
    assert told(audit) == [("k", "grants", "g1", "grant"), ("k", "grants", "g1", "revoke")]
    assert entries(audit)[0].summary == {"customer": "acme", "feature": "calls", "amount": "5"}


def test_exports(database: Database, audit: AuditLog) -> None:
    """Declared, changed, run and replayed by somebody, retired; a schedule's runs are nobody's."""
    store = ExportStore(database, CLOCK)
    for body in ({"a": 1}, {"a": 1}, {"a": 2}):
        store.declare("x", body, stream=LINES, from_now=False, actor="k")
    store.plan("x", after=0, upto=1, revision=2)
    store.plan("x", after=1, upto=2, revision=2, actor="k")
    with pytest.raises(DomainError):
        store.plan("x", after=1, upto=2, revision=2, actor="k")
    store.again("x", 1, actor="k")
    for _ in range(2):
        store.retire("x", actor="k")
    assert [each[3] for each in told(audit)] == ["declare", "declare", "run", "replay", "retire"]


def test_periods_and_invoices(database: Database, audit: AuditLog) -> None:
    """A close, an issue a document, a void; what is refused or repeated is nothing."""
    books = SqlBooks(database, CLOCK)
    before = books.mark()
    for _ in range(2):
        books.close_month(month("2026-01"), open_lines(2), entry(books.mark(), "2026-01"))
    with pytest.raises(BooksChanged):
        books.issue(document("a"), open_lines(0), entry(before))
    books.issue(pl.concat([document("a"), document("b")]), open_lines(0), entry(books.mark()))
    first = document("a")
    note = document("a", kind=DocumentKind.CREDIT_NOTE, taken_back=first["id"].item())
    books.issue(note, open_lines(0), entry(books.mark()))
    assert [(kind, action) for _, kind, _, action in told(audit)] == [
        ("periods", "close"),
        ("invoices", "issue"),
        ("invoices", "issue"),
        ("invoices", "void"),
    ]
    assert entries(audit)[-1].subject == first["id"].item()
    assert entries(audit)[-1].summary["credit_note"] == note["id"].item()


def test_nodes(database: Database, audit: AuditLog) -> None:
    """A node declared gone, once."""
    registry = NodeRegistry(database, CLOCK)
    registry.register(NodeId("n1"), "i")
    for _ in range(2):
        registry.retire(NodeId("n1"))
    assert told(audit) == [("cli", "nodes", "n1", "retire")]


def test_a_sandbox_clock(database: Database, audit: AuditLog, tmp_path: Path) -> None:
    """A move that is refused leaves nothing."""
    clock = FileClock.create(tmp_path / "clock", 10)
    change = Change("clock", "sandbox", "move")
    audit.record(change, actor="k", at=Micros(20), doing=lambda: clock.advance(20))
    with pytest.raises(DomainError):
        audit.record(change, actor="k", at=Micros(5), doing=lambda: clock.advance(5))
    assert [each.recorded_at for each in entries(audit)] == [20]


def test_entries_cannot_be_changed(database: Database, audit: AuditLog) -> None:
    """The database itself refuses it."""
    KeyStore(database, CLOCK).add(KEY)
    for change in (sa.update(AUDIT).values(actor="x"), sa.delete(AUDIT)):
        with pytest.raises(sa.exc.DatabaseError), database.write() as connection:
            connection.execute(change)
    assert told(audit) == [("cli", "keys", "k1", "create")]


def test_a_change_behind_its_back_is_found(database: Database, audit: AuditLog) -> None:
    """Somebody who drops the triggers still leaves a chain that does not hold."""
    store = StatementStore(database, CLOCK, ZoneInfo("UTC"))
    store.append([statement(f"p{n}", "P") for n in range(5)], expected_revision=0)
    assert audit.first_broken() == (5, None)
    with database.write() as connection:
        if database.dialect == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER audit_UPDATE")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_append_only ON audit")
        connection.execute(sa.update(AUDIT).where(AUDIT.c.position == 3).values(actor="x"))
    assert audit.first_broken() == (3, 3)


def test_pages_and_filters(database: Database, audit: AuditLog) -> None:
    """The newest first; each filter narrows, bounds are half-open."""
    clock = FixedClock(0)
    keys = KeyStore(database, clock)
    for n in range(6):
        clock.set(n)
        made = replace(KEY, id=KeyId(f"k{n}"), digest=bytes([n]) * 32)
        keys.add(made, actor="even" if n % 2 == 0 else "odd")

    def found(before: int | None = None, limit: int = 10, **asked: object) -> list[str]:
        return [
            each.subject for each in audit.page(AuditQuery(**asked), before=before, limit=limit)
        ]

    assert found(limit=2) == ["k5", "k4"]
    assert found(before=5, limit=2) == ["k3", "k2"]
    assert found(actor="even") == ["k4", "k2", "k0"]
    assert found(since=Micros(2), until=Micros(4)) == ["k3", "k2"]
    assert found(kind="keys", subject="k3") == ["k3"]
    assert found(kind="grants") == []


def test_no_change_without_its_entry(database: Database, audit: AuditLog) -> None:
    """Where the entry cannot be written, the change is not there either."""
    with database.write() as connection:  # the next position is taken: the entry's insert fails
        row = {column.name: "" for column in AUDIT.c} | {"recorded_at": 0, "position": 0}
        connection.execute(sa.insert(AUDIT).values(row))
        if database.dialect == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER full_disk BEFORE INSERT ON audit BEGIN "
                "SELECT RAISE(ABORT, 'no room'); END"
            )
        else:
            connection.exec_driver_sql("ALTER TABLE audit ADD CONSTRAINT none CHECK (position < 1)")
    keys, grants = KeyStore(database, CLOCK), GrantStore(database, CLOCK)
    for change in (lambda: keys.add(KEY), lambda: grants.add(GRANT)):
        with pytest.raises(sa.exc.DatabaseError):
            change()
    assert keys.all() == []
    assert grants.current().revision == 0
