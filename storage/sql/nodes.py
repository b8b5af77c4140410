"""Which nodes there are. The watermark is the smallest over the ones that are not retired."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from catalog.clock import Clock, Micros
from catalog.errors import Conflict, NotFound
from catalog.ids import NodeId
from storage.sql.audit import Change, record_changes
from storage.sql.database import Database
from storage.sql.schema import NODES


class NodeTaken(Conflict):
    """Another log directory already goes by this node's name: their records would be mixed."""

    code = "node_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredNode:
    """A gateway process and the log it owns. ``instance`` identifies the log directory."""

    node: NodeId
    instance: str
    registered_at: Micros
    retired_at: Micros | None = None


class NodeRegistry:
    """The nodes whose silence blocks a close, and those an operator declared gone."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def register(self, node: NodeId, instance: str) -> None:
        """Make ``node`` count; called at every start. Idempotent; brings a retired node back.

        Args:
            node: the node's name.
            instance: an id kept inside its log directory, the same at every start.

        Raises:
            NodeTaken: the name belongs to another log directory that is not retired.
        """
        with self._database.write() as connection:
            held = connection.execute(sa.select(NODES).where(NODES.c.node == node)).one_or_none()
            if held is not None and held.instance != instance and held.retired_at is None:
                raise NodeTaken(
                    f"node {node} is registered by another log directory; name this one "
                    f"differently, or retire the old one: tallyman node retire {node}"
                )
            if held is None or held.instance != instance or held.retired_at is not None:
                self._replace(connection, node, instance)

    def _replace(self, connection: sa.Connection, node: NodeId, instance: str) -> None:
        connection.execute(sa.delete(NODES).where(NODES.c.node == node))
        connection.execute(
            sa.insert(NODES).values(
                node=node, instance=instance, registered_at=self._clock.now_us(), retired_at=None
            )
        )

    def retire(self, node: NodeId) -> None:
        """Record that ``node`` will not return; the watermark no longer waits for it. Idempotent.

        Raises:
            NotFound: no such node was ever registered.
        """
        with self._database.write() as connection:
            held = connection.execute(sa.select(NODES).where(NODES.c.node == node)).one_or_none()
            if held is None:
                raise NotFound(f"no node {node}")
            if held.retired_at is None:
                change = sa.update(NODES).where(NODES.c.node == node)
                now = self._clock.now_us()
                connection.execute(change.values(retired_at=now))
                retired = Change("nodes", node, "retire", {"instance": held.instance})
                record_changes(connection, [retired], actor=None, at=now)

    def nodes(self, *, retired: bool = False) -> tuple[RegisteredNode, ...]:
        """The nodes that count, by name; with ``retired`` also those that no longer do."""
        query = sa.select(NODES).order_by(NODES.c.node)
        if not retired:
            query = query.where(NODES.c.retired_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(RegisteredNode(**row) for row in rows)
