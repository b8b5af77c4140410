"""How the logs of compensations are named: known without opening one."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.events import COMPENSATIONS
from catalog.ids import NodeId


def compensations_node(nodes: Sequence[NodeId], *, prefix: str) -> NodeId:
    """The name of the compensations among the ``nodes`` on disk, or the one to begin with."""
    found = [node for node in nodes if is_compensations(node)]
    return max(found) if found else NodeId(f"{prefix}.{1:04d}{COMPENSATIONS}")


def renewed(node: NodeId) -> NodeId:
    """The name of the log that replaces ``node``: nobody's position in that one means this one."""
    prefix, _, number = node.removesuffix(COMPENSATIONS).rpartition(".")
    return NodeId(f"{prefix}.{int(number) + 1:04d}{COMPENSATIONS}")


def is_compensations(node: NodeId) -> bool:
    """Whether a log is the readers' own, not a gateway's."""
    return node.endswith(COMPENSATIONS)
