"""What a soak calls growth."""

from __future__ import annotations

from bench.soak.judging import DECISION_BYTES, LEDGER, LEDGER_BYTES, grown
from bench.soak.memory import MIB, MemoryWatch, Resident


def watched(part: str, *sizes: int) -> MemoryWatch:
    """A watch that saw one process at these sizes."""
    watch = MemoryWatch(0)
    watch.seen = [
        Resident(at_s=float(at), part=part, pid=1, bytes=size) for at, size in enumerate(sizes)
    ]
    return watch


def test_memory_that_grows_is_named():
    """The last third is compared with the middle one; the beginning fills what is bounded."""
    assert grown(watched("worker", 10 * MIB, 100 * MIB, 110 * MIB), 0) == []
    (said,) = grown(watched("worker", 10 * MIB, 100 * MIB, 130 * MIB), 10**6)
    assert "worker grew" in said


def test_the_ledger_remembers_decisions_for_a_day():
    """It may grow by what decisions take, and by no more."""
    decisions = 100_000
    most = LEDGER_BYTES + decisions * DECISION_BYTES
    assert grown(watched(LEDGER, MIB, most // 2, most), decisions) == []
    assert len(grown(watched(LEDGER, MIB, most // 2, most + 1), decisions)) == 1
