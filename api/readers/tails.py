"""Followers of every node's log, one set a thread (a follower belongs to one thread)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from api.readers.base import Tails
from catalog.clock import Micros
from catalog.ids import NodeId
from storage.copies.names import is_compensations
from storage.log.follower import Durable, LogFollower
from storage.log.sealed import Manifest


class CompensationTail:
    """The readers' own log as the other readers follow it: like a node's, in effective time.

    A compensation's ``received_at`` is the instant from which its event does not count, which was
    before it was found. Nobody answers for an instant that was not looked at, so none is late.
    """

    def __init__(self, follower: LogFollower, through: Callable[[], Micros]) -> None:
        self._follower = follower
        self._through = through

    def durable(self) -> Durable:
        """The last record, and how far the nodes' logs were looked at."""
        return Durable(seq=self._follower.durable().seq, received_at=self._through())

    def read_after(self, seq: int, *, rows_max: int) -> pl.DataFrame:
        """RECORDS behind ``seq``; see :class:`storage.log.follower.LogFollower`."""
        records = self._follower.read_after(seq, rows_max=rows_max)
        return records.with_columns(received_at=pl.coalesce("time", "received_at"))

    def segments(self) -> Sequence[Manifest]:
        """The sealed segments. What they say of receipt is about the writer, so it is left out."""
        segments = self._follower.segments()
        return [replace(segment, last_received_at=Micros(0)) for segment in segments]

    def seal_closed(self) -> Sequence[Manifest]:
        """Seal what is closed."""
        return self._follower.seal_closed()

    def close(self) -> None:
        """Close what is open."""
        self._follower.close()


Follower = LogFollower | CompensationTail


def follow(
    directory: Path, node: NodeId, *, through: Callable[[], Micros] = lambda: Micros(0)
) -> Follower:
    """A follower of the log of ``node`` in ``directory``."""
    follower = LogFollower(directory, node)
    return CompensationTail(follower, through) if is_compensations(node) else follower


class LogTails:
    """The logs under ``<data>/nodes``, of the nodes that ``nodes`` names when asked.

    Call it in the thread that reads: each thread gets followers of its own, kept as long as their
    nodes are named. ``through`` is how far the readers' own log has looked at the others.
    """

    def __init__(
        self,
        directory: Path,
        nodes: Callable[[], Iterable[NodeId]],
        *,
        through: Callable[[], Micros] = lambda: Micros(0),
    ) -> None:
        self._directory = directory
        self._nodes = nodes
        self._through = through
        self._own = threading.local()

    def __call__(self) -> Mapping[NodeId, Follower]:
        """The followers of this thread, by node, for every node there is now."""
        held: dict[NodeId, Follower] = self._own.__dict__.setdefault("followers", {})
        named = list(self._nodes())
        for node in held.keys() - named:
            held.pop(node).close()
        for node in named:
            if node not in held:
                held[node] = follow(self._directory / node, node, through=self._through)
        return dict(held)

    def directory(self, node: NodeId) -> Path:
        """Where the log of ``node`` is."""
        return self._directory / node


def nodes_on_disk(directory: Path) -> list[NodeId]:
    """The nodes that have a log directory here, in order of name."""
    if not directory.is_dir():
        return []
    return sorted(NodeId(path.name) for path in directory.iterdir() if path.is_dir())


def gateways_on_disk(directory: Path) -> list[NodeId]:
    """Those of them that a gateway writes or wrote: all but the readers' own."""
    return [node for node in nodes_on_disk(directory) if not is_compensations(node)]


def newest_in(tails: Tails) -> Micros:
    """The latest instant any of the logs holds."""
    return max((tail.durable().received_at for tail in tails().values()), default=Micros(0))
