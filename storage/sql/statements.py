"""The catalog's statements: append-only, numbered, and turned into :class:`Catalog` snapshots."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from catalog.clock import Clock, Micros
from catalog.errors import Conflict
from catalog.history import Kind, NewStatement, Statement, extend_catalog
from catalog.snapshot import Catalog
from storage.sql.audit import Change, digest_of, record_changes
from storage.sql.database import Database
from storage.sql.encoding import from_row, to_row
from storage.sql.schema import STATEMENTS

SNAPSHOTS_MAX = 8
NEVER = Micros(0)


class RevisionChanged(Conflict):
    """The catalog is no longer the one the caller decided on; nothing was stated."""

    code = "revision_changed"


class StatementStore:
    """What was ever stated about the catalog, and the snapshots it adds up to. Thread-safe.

    Several processes may append; statements are numbered 1, 2, 3, … in the order they commit,
    and ``recorded_at`` never decreases with the number.
    """

    def __init__(self, database: Database, clock: Clock, timezone: ZoneInfo) -> None:
        self._database = database
        self._clock = clock
        self._timezone = timezone
        self._snapshots: OrderedDict[int, Catalog] = OrderedDict()
        self._building = threading.Lock()

    def revision(self) -> int:
        """The number of the last statement, 0 when there is none. Cheap enough to poll."""
        with self._database.read() as connection:
            return _last(connection)[0]

    def current(self) -> Catalog:
        """The catalog with everything stated so far. Built once per revision."""
        return self._at(self.revision())

    def as_of(self, recorded_at: Micros) -> Catalog:
        """The catalog as recorded up to and including ``recorded_at``.

        The answer never changes for an instant that has passed in this store's clock.
        """
        known = STATEMENTS.c.recorded_at <= recorded_at
        query = sa.select(sa.func.coalesce(sa.func.max(STATEMENTS.c.revision), 0)).where(known)
        with self._database.read() as connection:
            revision = int(connection.execute(query).scalar_one())
        return self._at(revision)

    def append(
        self,
        new: Sequence[NewStatement],
        *,
        expected_revision: int | None,
        actor: str | None = None,
        after: Micros = NEVER,
    ) -> int:
        """State ``new`` in one transaction, all with one ``recorded_at``, and return the revision.

        ``recorded_at`` is now, but later than every earlier statement and than ``after`` (the
        largest ``as_of`` already answered): what was read as of then stays as it was, even when
        the clock steps back or stands still.

        Args:
            new: in the order they are to be numbered; nothing happens when empty.
            expected_revision: the revision ``new`` was planned on, or None to append regardless.
            actor: the id of the key that asked, for the audit trail.
            after: an instant that must stay in the past.

        Raises:
            RevisionChanged: someone else stated something since ``expected_revision``.
            DatabaseUnavailable: whether it was kept is unknown.
        """
        with self._database.write() as connection:
            revision, recorded_at = _last(connection)
            if expected_revision is not None and revision != expected_revision:
                raise RevisionChanged(
                    f"the catalog is at revision {revision}, not {expected_revision}; "
                    "read it again and repeat"
                )
            instant = Micros(max(self._clock.now_us(), recorded_at + 1, after + 1))
            rows = [
                to_row(statement, revision=revision + offset, recorded_at=instant, actor=actor)
                for offset, statement in enumerate(new, start=1)
            ]
            if rows:
                connection.execute(sa.insert(STATEMENTS), rows)
                record_changes(connection, map(_change, rows), actor=actor, at=instant)
            return revision + len(rows)

    def statements(self, kind: Kind, id: str) -> tuple[Statement, ...]:  # noqa: A002
        """Everything ever stated about one object, oldest first."""
        mine = (STATEMENTS.c.kind == kind.value) & (STATEMENTS.c.id == id)
        query = sa.select(STATEMENTS).where(mine).order_by(STATEMENTS.c.revision)
        with self._database.read() as connection:
            return tuple(from_row(row) for row in connection.execute(query).mappings())

    def every(self, kind: Kind, *, after: int) -> tuple[Statement, ...]:
        """Everything stated about one kind in revisions above ``after``, oldest first."""
        mine = (STATEMENTS.c.kind == kind.value) & (STATEMENTS.c.revision > after)
        query = sa.select(STATEMENTS).where(mine).order_by(STATEMENTS.c.revision)
        with self._database.read() as connection:
            return tuple(from_row(row) for row in connection.execute(query).mappings())

    def retired(self, kind: Kind, *, upto: int, id: str | None = None) -> frozenset[str]:  # noqa: A002
        """The ids of one kind whose last statement up to a revision is a retirement.

        With ``id``, of that object only.
        """
        known = (STATEMENTS.c.kind == kind.value) & (STATEMENTS.c.revision <= upto)
        if id is not None:
            known &= STATEMENTS.c.id == id
        last = sa.select(sa.func.max(STATEMENTS.c.revision)).where(known).group_by(STATEMENTS.c.id)
        query = sa.select(STATEMENTS.c.id).where(
            STATEMENTS.c.retired & STATEMENTS.c.revision.in_(last)
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def _at(self, revision: int) -> Catalog:
        """The snapshot of ``revision``, extended from the closest earlier one that is kept."""
        with self._building:
            found = self._snapshots.get(revision)
            if found is None:
                earlier = max((known for known in self._snapshots if known < revision), default=0)
                base = self._snapshots.get(earlier, Catalog(timezone=self._timezone))
                found = extend_catalog(base, self._between(earlier, revision))
                self._snapshots[revision] = found
            self._snapshots.move_to_end(revision)
            while len(self._snapshots) > SNAPSHOTS_MAX:
                self._snapshots.popitem(last=False)
            return found

    def _between(self, after: int, upto: int) -> list[Statement]:
        wanted = (STATEMENTS.c.revision > after) & (STATEMENTS.c.revision <= upto)
        query = sa.select(STATEMENTS).where(wanted).order_by(STATEMENTS.c.revision)
        with self._database.read() as connection:
            return [from_row(row) for row in connection.execute(query).mappings()]


def _change(row: Mapping[str, object]) -> Change:
    """A row of STATEMENTS as the audit log names it."""
    retired = bool(row["retired"])
    return Change(
        str(row["kind"]),
        str(row["id"]),
        "retire" if retired else "state",
        {"revision": row["revision"]},
        None if retired else digest_of(str(row["versions"])),
    )


def _last(connection: sa.Connection) -> tuple[int, Micros]:
    """Revision and ``recorded_at`` of the last statement, or zeros."""
    columns = sa.select(STATEMENTS.c.revision, STATEMENTS.c.recorded_at)
    query = columns.order_by(STATEMENTS.c.revision.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (0, Micros(0)) if row is None else (int(row[0]), Micros(row[1]))
