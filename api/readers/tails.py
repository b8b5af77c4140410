"""Followers of every node's log, one set a thread (a follower belongs to one thread)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from catalog.ids import NodeId
from storage.log.follower import LogFollower


class LogTails:
    """The logs under ``<data>/nodes``, of the nodes that ``nodes`` names when asked.

    Call it in the thread that reads: each thread gets followers of its own, kept for its life.
    """

    def __init__(self, directory: Path, nodes: Callable[[], Iterable[NodeId]]) -> None:
        self._directory = directory
        self._nodes = nodes
        self._own = threading.local()

    def __call__(self) -> Mapping[NodeId, LogFollower]:
        """The followers of this thread, by node, for every node there is now."""
        held: dict[NodeId, LogFollower] = self._own.__dict__.setdefault("followers", {})
        for node in self._nodes():
            if node not in held:
                held[node] = LogFollower(self._directory / node, node)
        return dict(held)

    def directory(self, node: NodeId) -> Path:
        """Where the log of ``node`` is."""
        return self._directory / node


def nodes_on_disk(directory: Path) -> list[NodeId]:
    """The nodes that have a log directory here, in order of name."""
    if not directory.is_dir():
        return []
    return sorted(NodeId(path.name) for path in directory.iterdir() if path.is_dir())
