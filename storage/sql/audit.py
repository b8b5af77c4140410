"""The audit log: who changed what, and when. Written in the transaction of the change itself.

An entry is there exactly if its change is. Entries are never changed or removed (triggers refuse
it), and each carries a hash over itself and the one before: who edits the table all the same has
to rewrite everything after, and the last hash, noted anywhere else, tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl
import sqlalchemy as sa
from sqlalchemy import RowMapping

from catalog.clock import Micros
from storage.sql.bulk import append_frame
from storage.sql.database import Database
from storage.sql.schema import AUDIT

T = TypeVar("T")

CLI = "cli"
"""The actor of a command that works on a data directory itself, and of the service's start."""

_HASHED = ("position", "recorded_at", "actor", "kind", "subject", "action", "summary", "digest")
_NUMBERS = ("position", "recorded_at")
_STORED = {name: pl.Int64() if name in _NUMBERS else pl.String() for name in (*_HASHED, "chain")}
_PAGE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """One change: a kind (``contracts``, ``keys``, …), its subject's id, and what was done.

    ``digest`` is the SHA-256 of what the subject is from now on, null where it ends or has no
    content of its own; what it was before is the digest of the subject's entry before.
    """

    kind: str
    subject: str
    action: str
    summary: Mapping[str, object] = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A change as recorded, with who did it, when, and its place (1, 2, 3, …)."""

    position: int
    recorded_at: Micros
    actor: str
    kind: str
    subject: str
    action: str
    summary: Mapping[str, object]
    digest: str | None
    chain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries; what is null does not restrict. Times are ``[since, until)``."""

    kind: str | None = None
    subject: str | None = None
    actor: str | None = None
    since: Micros | None = None
    until: Micros | None = None

    def conditions(self) -> Iterator[sa.ColumnElement[bool]]:
        """The same for SQL."""
        for name in ("kind", "subject", "actor"):
            value = getattr(self, name)
            if value is not None:
                yield AUDIT.c[name] == value
        if self.since is not None:
            yield AUDIT.c.recorded_at >= self.since
        if self.until is not None:
            yield AUDIT.c.recorded_at < self.until


def digest_of(text: str) -> str:
    """SHA-256 (hex) of what a subject is."""
    return hashlib.sha256(text.encode()).hexdigest()


def record_changes(
    connection: sa.Connection, changes: Iterable[Change], *, actor: str | None, at: Micros
) -> None:
    """Append one entry a change to the log, inside the writing transaction of the changes.

    ``actor`` is the id of the key that asked, null for a command. Writers are serialised
    (:class:`storage.sql.database.Database`), so the next position is the last plus one.
    """
    columns = sa.select(AUDIT.c.position, AUDIT.c.chain).order_by(AUDIT.c.position.desc())
    last = connection.execute(columns.limit(1)).one_or_none()
    position, chain = (0, "") if last is None else (int(last[0]), str(last[1]))
    rows = []
    for number, change in enumerate(changes, start=position + 1):
        summary = json.dumps(change.summary)
        named = (change.kind, change.subject, change.action, summary, change.digest)
        hashed = (number, at, actor or CLI, *named)
        chain = _chained(chain, hashed)
        rows.append((*hashed, chain))
    if rows:
        append_frame(connection, AUDIT, pl.DataFrame(rows, schema=_STORED, orient="row"))


class AuditLog:
    """The entries there are. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, asked: AuditQuery, *, before: int | None = None, limit: int
    ) -> tuple[AuditEntry, ...]:
        """At most ``limit`` entries, the newest first, those below position ``before``."""
        query = sa.select(AUDIT).where(*asked.conditions())
        if before is not None:
            query = query.where(AUDIT.c.position < before)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(AUDIT.c.position.desc()).limit(limit))
            return tuple(map(_entry, found.mappings()))

    def record(self, change: Change, *, actor: str | None, at: Micros, doing: Callable[[], T]) -> T:
        """Do a change that is not kept in SQL, last before its entry is committed.

        What ``doing`` refuses leaves no entry. Killed between the two, the change has none.
        """
        with self._database.write() as connection:
            record_changes(connection, [change], actor=actor, at=at)
            return doing()

    def first_broken(self) -> tuple[int, int | None]:
        """How many entries there are, and the first position whose chain does not hold."""
        count, chain = 0, ""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(AUDIT).order_by(AUDIT.c.position))
            for row in rows.yield_per(_PAGE_ROWS).mappings():
                count += 1
                chain = _chained(chain, tuple(row[name] for name in _HASHED))
                if row["position"] != count or row["chain"] != chain:
                    return count, count
        return count, None


def _chained(before: str, hashed: tuple[object, ...]) -> str:
    """The chain after an entry, of which ``hashed`` are the values of _HASHED."""
    return digest_of(before + json.dumps(hashed))


def _entry(row: RowMapping) -> AuditEntry:
    return AuditEntry(**dict(row) | {"summary": json.loads(row["summary"])})
