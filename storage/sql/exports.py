"""Destinations and their runs in SQL: what was declared, what was handed over, how far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from catalog.clock import Clock, Micros
from catalog.errors import Conflict, NotFound
from storage.sql.audit import Change, digest_of, record_changes
from storage.sql.database import Database
from storage.sql.schema import CLOSED_LINES, EXPORT_RUNS, EXPORTS, INVOICES, PERIODS

LINES = "lines"
"""The stream whose positions are closed lines; the other one's are issued documents."""


class RunStatus(StrEnum):
    """Where a run is: to be tried, taken, without a row to send, or given up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EMPTY = "empty"
    DEAD = "dead"


class StretchTaken(Conflict):
    """Another process made a run of these positions in between; nothing was planned."""

    code = "stretch_taken"


class StreamFixed(Conflict):
    """A destination's positions count something else: declare the new one under another id."""

    code = "export_stream_fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One revision of a destination; ``body`` is its declaration, ``position`` where it stands."""

    export: str
    revision: int
    body: Mapping[str, object]
    stream: str
    recorded_at: Micros
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One delivery: positions in ``(after, upto]``, made with one revision of the destination.

    ``rows``, ``bytes`` and ``checksum`` are null until it was rendered once. ``attempts`` count
    since it was last asked for. ``next_attempt_at`` is set while it is pending.
    """

    export: str
    number: int
    revision: int
    after: int
    upto: int
    status: RunStatus
    rows: int | None
    bytes: int | None
    checksum: str | None
    attempts: int
    deliveries: int
    error: str | None
    created_at: Micros
    next_attempt_at: Micros | None
    delivered_at: Micros | None
    actor: str | None


class ExportStore:
    """Declarations are appended, never changed; a run's outcome is. Thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def declare(
        self,
        export: str,
        body: Mapping[str, object],
        *,
        stream: str,
        from_now: bool,
        actor: str | None = None,
    ) -> tuple[Declared, bool]:
        """State what a destination is; saying the same again changes nothing.

        Returns:
            The declaration in force, and whether the destination is new (or back).

        Raises:
            StreamFixed: it reads the other stream.
        """
        text = json.dumps(body)
        with self._database.write() as connection:
            held = _last(connection, export)
            if held is not None and held["stream"] != stream:
                raise StreamFixed(f"{export} counts {held['stream']}, not {stream}")
            new = held is None or bool(held["retired"])
            if held is None or new or held["body"] != text:
                start = _head(connection, stream) if from_now and held is None else 0
                row = {
                    "export": export,
                    "revision": 1 if held is None else held["revision"] + 1,
                    "body": text,
                    "stream": stream,
                    "start": start if held is None else held["start"],
                    "retired": False,
                    "recorded_at": self._clock.now_us(),
                    "actor": actor,
                }
                connection.execute(sa.insert(EXPORTS).values(row))
                summary = {"revision": row["revision"], "stream": stream}
                change = Change("exports", export, "declare", summary, digest_of(text))
                record_changes(connection, [change], actor=actor, at=self._clock.now_us())
            return _declared(connection, export), new

    def retire(self, export: str, *, actor: str | None = None) -> None:
        """End a destination: nothing more is delivered, its runs stay. Idempotent.

        Raises:
            NotFound: there never was one.
        """
        with self._database.write() as connection:
            held = _last(connection, export)
            if held is None:
                raise NotFound(f"no export {export!r}")
            if held["retired"]:
                return
            change = {
                "revision": held["revision"] + 1,
                "retired": True,
                "recorded_at": self._clock.now_us(),
                "actor": actor,
            }
            connection.execute(sa.insert(EXPORTS).values(dict(held) | change))
            ended = Change("exports", export, "retire", {"revision": change["revision"]})
            record_changes(connection, [ended], actor=actor, at=self._clock.now_us())

    def get(self, export: str, *, revision: int | None = None) -> Declared:
        """A destination in force; with ``revision`` as it was then, in force or not.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            return _declared(connection, export, revision)

    def names(self) -> list[str]:
        """The destinations in force, by id."""
        with self._database.read() as connection:
            return _names(connection)

    def all(self) -> tuple[Declared, ...]:
        """Every destination in force, by id."""
        with self._database.read() as connection:
            return tuple(_declared(connection, name) for name in _names(connection))

    def plan(
        self, export: str, *, after: int, upto: int, revision: int, actor: str | None = None
    ) -> Run:
        """Record the next run, to be tried now; one that a schedule made has no actor.

        Raises:
            StretchTaken: the destination is not at ``after`` any more.
            NotFound: it is not in force.
        """
        now = self._clock.now_us()
        with self._database.write() as connection:
            held = _declared(connection, export)
            if held.position != after:
                raise StretchTaken(f"{export} is at {held.position}, not {after}")
            last = connection.execute(
                sa.select(sa.func.max(EXPORT_RUNS.c.number)).where(EXPORT_RUNS.c.export == export)
            ).scalar_one()
            run = Run(
                export=export,
                number=(last or 0) + 1,
                revision=revision,
                after=after,
                upto=upto,
                status=RunStatus.PENDING,
                rows=None,
                bytes=None,
                checksum=None,
                attempts=0,
                deliveries=0,
                error=None,
                created_at=now,
                next_attempt_at=now,
                delivered_at=None,
                actor=actor,
            )
            connection.execute(sa.insert(EXPORT_RUNS).values(_row(run)))
            if actor is not None:
                summary = {"run": run.number, "after": after, "upto": upto}
                asked = Change("exports", export, "run", summary)
                record_changes(connection, [asked], actor=actor, at=now)
            return run

    def record(self, run: Run) -> Run:
        """Keep what became of a run. Returns it."""
        with self._database.write() as connection:
            _keep(connection, run)
        return run

    def again(self, export: str, number: int, *, actor: str | None = None) -> Run:
        """Set a run to be tried now, whatever became of it before.

        Raises:
            NotFound: there is no such run.
        """
        now = self._clock.now_us()
        with self._database.write() as connection:
            held = _one(connection, export, number)
            run = replace(held, status=RunStatus.PENDING, attempts=0, next_attempt_at=now)
            _keep(connection, run)
            change = Change("exports", export, "replay", {"run": number})
            record_changes(connection, [change], actor=actor, at=now)
        return run

    def run(self, export: str, number: int) -> Run:
        """One run.

        Raises:
            NotFound: there is no such run.
        """
        with self._database.read() as connection:
            return _one(connection, export, number)

    def runs(self, export: str, *, before: int | None, limit: int) -> tuple[Run, ...]:
        """A destination's runs, the newest first, those below number ``before``."""
        query = sa.select(EXPORT_RUNS).where(EXPORT_RUNS.c.export == export)
        if before is not None:
            query = query.where(EXPORT_RUNS.c.number < before)
        with self._database.read() as connection:
            ordered = query.order_by(EXPORT_RUNS.c.number.desc()).limit(limit)
            return tuple(_run(row) for row in connection.execute(ordered).mappings())

    def due(self, export: str, *, limit: int = 100) -> tuple[Run, ...]:
        """The runs of a destination that are to be tried by now, in order."""
        query = sa.select(EXPORT_RUNS).where(
            EXPORT_RUNS.c.export == export,
            EXPORT_RUNS.c.status == RunStatus.PENDING.value,
            EXPORT_RUNS.c.next_attempt_at <= self._clock.now_us(),
        )
        with self._database.read() as connection:
            ordered = query.order_by(EXPORT_RUNS.c.number).limit(limit)
            return tuple(_run(row) for row in connection.execute(ordered).mappings())

    def counts(self, export: str) -> dict[str, int]:
        """How many runs are in each status."""
        columns = sa.select(EXPORT_RUNS.c.status, sa.func.count())
        query = columns.where(EXPORT_RUNS.c.export == export).group_by(EXPORT_RUNS.c.status)
        with self._database.read() as connection:
            found = {str(row[0]): int(row[1]) for row in connection.execute(query)}
        return {status.value: found.get(status.value, 0) for status in RunStatus}

    def closed_upto(self, stream: str) -> int:
        """How far a stream is final: lines up to the last close of a month, documents as issued.

        0 for none.
        """
        with self._database.read() as connection:
            if stream != LINES:
                return _head(connection, stream)
            last = sa.select(sa.func.max(PERIODS.c.sequence))
            return int(connection.execute(last).scalar_one() or 0)

    def head(self, stream: str) -> int:
        """The last position of a stream, 0 for none."""
        with self._database.read() as connection:
            return _head(connection, stream)


def _keep(connection: Connection, run: Run) -> None:
    mine = _named(run.export, run.number)
    connection.execute(sa.update(EXPORT_RUNS).where(mine).values(_row(run)))


def _one(connection: Connection, export: str, number: int) -> Run:
    query = sa.select(EXPORT_RUNS).where(_named(export, number))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"export {export!r} has no run {number}")
    return _run(row)


def _named(export: str, number: int) -> sa.ColumnElement[bool]:
    return (EXPORT_RUNS.c.export == export) & (EXPORT_RUNS.c.number == number)


def _head(connection: Connection, stream: str) -> int:
    column = CLOSED_LINES.c.sequence if stream == LINES else INVOICES.c.position
    return int(connection.execute(sa.select(sa.func.max(column))).scalar_one() or 0)


def _last(connection: Connection, export: str) -> RowMapping | None:
    query = sa.select(EXPORTS).where(EXPORTS.c.export == export)
    newest = query.order_by(EXPORTS.c.revision.desc()).limit(1)
    return connection.execute(newest).mappings().one_or_none()


def _names(connection: Connection) -> list[str]:
    same = EXPORTS.alias()
    newest = sa.select(sa.func.max(same.c.revision)).where(same.c.export == EXPORTS.c.export)
    query = sa.select(EXPORTS.c.export).where(
        EXPORTS.c.revision == newest.scalar_subquery(), ~EXPORTS.c.retired
    )
    return list(connection.execute(query.order_by(EXPORTS.c.export)).scalars())


def _declared(connection: Connection, export: str, revision: int | None = None) -> Declared:
    if revision is None:
        row = _last(connection, export)
    else:
        one = (EXPORTS.c.export == export) & (EXPORTS.c.revision == revision)
        row = connection.execute(sa.select(EXPORTS).where(one)).mappings().one_or_none()
    if row is None or (revision is None and row["retired"]):
        raise NotFound(f"no export {export!r}")
    reached = connection.execute(
        sa.select(sa.func.max(EXPORT_RUNS.c.upto)).where(EXPORT_RUNS.c.export == export)
    ).scalar_one()
    return Declared(
        export=export,
        revision=row["revision"],
        body=json.loads(row["body"]),
        stream=row["stream"],
        recorded_at=Micros(row["recorded_at"]),
        position=row["start"] if reached is None else int(reached),
    )


def _row(run: Run) -> dict[str, object]:
    names: Sequence[str] = EXPORT_RUNS.c.keys()
    return {name: getattr(run, name) for name in names} | {"status": run.status.value}


def _run(row: RowMapping) -> Run:
    return Run(**dict(row) | {"status": RunStatus(row["status"])})
