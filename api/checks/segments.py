"""Segments against their manifests."""

from __future__ import annotations

from pathlib import Path

from api.checks.report import Check
from catalog.ids import NodeId
from storage.log.verify import verify_segments


def check_segments(directory: Path, node: NodeId) -> Check:
    """Read every sealed segment of ``node`` in full and compare it with what vouches for it."""
    found = Check.well("segments", "log", node, "every sealed segment is what its manifest says")
    difference = verify_segments(directory, node=node)
    if difference is None:
        return found
    return found.differs(difference.seq, f"{Path(difference.file).name}: {difference.detail}")
