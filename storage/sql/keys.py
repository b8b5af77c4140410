"""The API keys, by digest. Their text is never here."""

from __future__ import annotations

import json

import sqlalchemy as sa

from catalog.clock import Clock, Micros, to_rfc3339
from catalog.errors import Conflict, NotFound
from catalog.keys import KeyId, KeyRecord, Scope
from storage.sql.audit import Change, record_changes
from storage.sql.database import Database
from storage.sql.schema import API_KEYS


class KeyStore:
    """Keys are added and revoked, never changed or removed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, key: KeyRecord, *, actor: str | None = None) -> None:
        """Store a new key. Adding the same id and digest again changes nothing.

        ``actor`` is the id of the key that asked, for the audit log; null for a command.

        Raises:
            Conflict: the id is taken by another key, or the digest by another id.
        """
        with self._database.write() as connection:
            same = (API_KEYS.c.id == key.id) | (API_KEYS.c.digest == key.digest)
            held = [_record(row) for row in connection.execute(sa.select(API_KEYS).where(same))]
            if any(other.id != key.id or other.digest != key.digest for other in held):
                raise Conflict(f"key {key.id} is already there")
            if not held:
                connection.execute(
                    sa.insert(API_KEYS).values(**_row(key), change=_next(connection))
                )
                made = Change("keys", key.id, "create", _summary(key))
                record_changes(connection, [made], actor=actor, at=self._clock.now_us())

    def revoke(self, key: KeyId, *, actor: str | None = None) -> None:
        """Close a key for good. Idempotent: the first instant stays.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write() as connection:
            mine = API_KEYS.c.id == key
            held = connection.execute(sa.select(API_KEYS).where(mine)).one_or_none()
            if held is None:
                raise NotFound(f"no key {key}")
            if held.revoked_at is None:
                now = self._clock.now_us()
                values = {"revoked_at": now, "change": _next(connection)}
                connection.execute(sa.update(API_KEYS).where(mine).values(values))
                ended = Change("keys", key, "revoke", {"name": held.name})
                record_changes(connection, [ended], actor=actor, at=now)

    def all(self) -> list[KeyRecord]:
        """Every key there ever was, oldest first, revoked and expired ones too."""
        query = sa.select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def revision(self) -> int:
        """A number that grows whenever the set of keys changes. Cheap enough to poll."""
        with self._database.read() as connection:
            return _latest(connection)


def _latest(connection: sa.Connection) -> int:
    query = sa.select(sa.func.coalesce(sa.func.max(API_KEYS.c.change), 0))
    return int(connection.execute(query).scalar_one())


def _next(connection: sa.Connection) -> int:
    return _latest(connection) + 1


def _row(key: KeyRecord) -> dict[str, object]:
    return {
        "id": key.id,
        "digest": key.digest,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "customers": _names_text(key.customers),
        "sources": _names_text(key.sources),
    }


def _summary(key: KeyRecord) -> dict[str, object]:
    """What the audit log says of a new key: all but what opens a door."""
    return {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "customers": None if key.customers is None else sorted(key.customers),
        "sources": None if key.sources is None else sorted(key.sources),
        "expires_at": None if key.expires_at is None else to_rfc3339(key.expires_at),
    }


def _names_text(names: frozenset[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(json.loads(text))


def _record(row: sa.Row[tuple[object, ...]]) -> KeyRecord:
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return KeyRecord(
        id=KeyId(fields["id"]),
        digest=bytes(fields["digest"]),
        name=fields["name"],
        scopes=frozenset(Scope(scope) for scope in fields["scopes"].split()),
        created_at=Micros(fields["created_at"]),
        expires_at=None if fields["expires_at"] is None else Micros(fields["expires_at"]),
        revoked_at=None if fields["revoked_at"] is None else Micros(fields["revoked_at"]),
        customers=_names(fields["customers"]),
        sources=_names(fields["sources"]),
    )
