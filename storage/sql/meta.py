"""Facts about the deployment that must survive its processes: the data format, the sandbox."""

from __future__ import annotations

import sqlalchemy as sa

from storage.sql.database import Database
from storage.sql.schema import META


class MetaStore:
    """A few texts by key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> str | None:
        """The value of ``key``, or None where none was set."""
        with self._database.read() as connection:
            return _value(connection, key)

    def put(self, key: str, value: str) -> None:
        """Set ``key`` to ``value``, whatever stood there."""
        with self._database.write() as connection:
            connection.execute(sa.delete(META).where(META.c.key == key))
            connection.execute(sa.insert(META).values(key=key, value=value))

    def claim(self, key: str, value: str) -> str:
        """Set ``key`` unless it is set, and return what it is now.

        For what a data directory decides once (its format, whether it is a sandbox): of two
        processes that start at once both get the same answer.
        """
        with self._database.write() as connection:
            held = _value(connection, key)
            if held is None:
                connection.execute(sa.insert(META).values(key=key, value=value))
            return value if held is None else held


def _value(connection: sa.Connection, key: str) -> str | None:
    query = sa.select(META.c.value).where(META.c.key == key)
    return connection.execute(query).scalar_one_or_none()
