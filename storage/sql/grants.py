"""Grants bought or given: append-only rows, and the book they add up to."""

from __future__ import annotations

import threading
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import RowMapping

from catalog.clock import Clock, Micros
from catalog.errors import Conflict, NotFound
from catalog.ids import CustomerId, FeatureId
from catalog.periods import FOREVER
from catalog.pricebooks import Anchor
from entitlements.amounts import parse_amount, to_text
from entitlements.given import GivenGrant, GrantBook, GrantId
from storage.sql.audit import Change, record_changes
from storage.sql.database import Database
from storage.sql.schema import GRANTS


class GrantStore:
    """Grants are stated and revoked, never changed or removed. Thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._book = GrantBook()
        self._reading = threading.Lock()

    def revision(self) -> int:
        """The number of the last row, 0 when there is none. Cheap enough to poll."""
        with self._database.read() as connection:
            return _last(connection)[0]

    def current(self) -> GrantBook:
        """Every grant there is; only rows newer than the last look are read."""
        with self._reading:
            with self._database.read() as connection:
                newer = GRANTS.c.revision > self._book.revision
                query = sa.select(GRANTS).where(newer).order_by(GRANTS.c.revision)
                rows = connection.execute(query).mappings().all()
            if rows:
                found = [_grant(row) for row in rows]
                self._book = self._book.extended(found, revision=rows[-1]["revision"])
            return self._book

    def add(self, grant: GivenGrant, *, actor: str | None = None) -> GivenGrant:
        """State a grant; saying the same again changes nothing. Answers it as recorded.

        Raises:
            Conflict: the id stands for another grant.
        """
        with self._database.write() as connection:
            known = _find(connection, grant.id)
            if known is not None:
                if _content(known) != _content(grant):
                    raise Conflict(f"grant {grant.id} is another one already")
                return known
            return self._append(connection, grant, actor=actor)

    def revoke(
        self, customer: CustomerId, grant: GrantId, *, actor: str | None = None
    ) -> GivenGrant:
        """End a grant now, for good. Idempotent: the first instant stays.

        Raises:
            NotFound: the customer has no such grant.
        """
        with self._database.write() as connection:
            known = _find(connection, grant)
            if known is None or known.customer != customer:
                raise NotFound(f"no grant {grant!r} of this customer")
            if known.revoked_at is not None:
                return known
            return self._append(connection, known, revoked=True, actor=actor)

    def _append(
        self,
        connection: sa.Connection,
        grant: GivenGrant,
        *,
        revoked: bool = False,
        actor: str | None = None,
    ) -> GivenGrant:
        revision, last = _last(connection)
        now = Micros(max(self._clock.now_us(), last))
        stated = replace(
            grant,
            revision=revision + 1,
            recorded_at=grant.recorded_at if revoked else now,
            revoked_at=now if revoked else None,
        )
        row = _row(stated) | {"recorded_at": now, "revoked": revoked, "actor": actor}
        connection.execute(sa.insert(GRANTS).values(row))
        summary = {"customer": grant.customer, "feature": grant.feature, "amount": row["amount"]}
        change = Change("grants", grant.id, "revoke" if revoked else "grant", summary)
        record_changes(connection, [change], actor=actor, at=now)
        return stated


def _last(connection: sa.Connection) -> tuple[int, Micros]:
    columns = sa.select(GRANTS.c.revision, GRANTS.c.recorded_at)
    row = connection.execute(columns.order_by(GRANTS.c.revision.desc()).limit(1)).one_or_none()
    return (0, Micros(0)) if row is None else (int(row[0]), Micros(row[1]))


def _find(connection: sa.Connection, grant: GrantId) -> GivenGrant | None:
    query = sa.select(GRANTS).where(GRANTS.c.id == grant).order_by(GRANTS.c.revision.desc())
    row = connection.execute(query.limit(1)).mappings().one_or_none()
    return None if row is None else _grant(row)


def _content(grant: GivenGrant) -> GivenGrant:
    """What the caller said of it."""
    return replace(grant, recorded_at=Micros(0), revoked_at=None, revision=0)


def _row(grant: GivenGrant) -> dict[str, object]:
    return {
        "revision": grant.revision,
        "id": grant.id,
        "customer": grant.customer,
        "feature": grant.feature,
        "amount": to_text(grant.amount),
        "priority": grant.priority,
        "effective_at": grant.effective,
        "expires_at": None if grant.expires >= FOREVER else grant.expires,
        "rollover_max": None if grant.rollover_max is None else to_text(grant.rollover_max),
        "granted_at": grant.recorded_at,
        "every_months": grant.every_months,
        "anchor": None if grant.every_months is None else grant.anchor.value,
    }


def _grant(row: RowMapping) -> GivenGrant:
    rollover, expires = row["rollover_max"], row["expires_at"]
    return GivenGrant(
        id=GrantId(row["id"]),
        customer=CustomerId(row["customer"]),
        feature=FeatureId(row["feature"]),
        amount=parse_amount(row["amount"], pointer="amount"),
        priority=row["priority"],
        effective=Micros(row["effective_at"]),
        expires=Micros(FOREVER if expires is None else expires),
        rollover_max=None if rollover is None else parse_amount(rollover, pointer="rollover_max"),
        recorded_at=Micros(row["granted_at"]),
        every_months=row["every_months"],
        anchor=Anchor(row["anchor"] or Anchor.CONTRACT),
        revoked_at=Micros(row["recorded_at"]) if row["revoked"] else None,
        revision=row["revision"],
    )
