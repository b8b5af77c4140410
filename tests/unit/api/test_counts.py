"""What gateways count becomes metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from api.hot.counts import GatewayCounts


@dataclass(frozen=True)
class Code:
    """A refusal, or an item of a decision."""

    code: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Body:
    """What became of one."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Code] = field(default_factory=list)


@dataclass(frozen=True)
class Decided:
    """A decision."""

    allowed: bool
    items: list[Code] = field(default_factory=list)


def test_counts_add_up() -> None:
    """Events by outcome and code, decisions by outcome and reason, fsyncs, the queue now."""
    counts = GatewayCounts()
    counts.took(Body(accepted=2, duplicates=1, rejected=[Code("conflict"), Code("too_large")]))
    counts.took(Body(accepted=1, rejected=[Code("conflict")]))
    counts.decided("consume", Decided(allowed=True, items=[Code()]))
    denied = [Code(reason="insufficient"), Code()]
    counts.decided("consume", Decided(allowed=False, items=denied))
    counts.synced(0.002)
    counts.synced(100.0)
    counts.queue = lambda: (7, 70)
    registry = CollectorRegistry()
    registry.register(counts)
    text = generate_latest(registry).decode()
    for line in (
        'tallyman_events_total{outcome="accepted"} 3.0',
        'tallyman_events_total{outcome="duplicate"} 1.0',
        'tallyman_events_total{outcome="rejected"} 3.0',
        'tallyman_events_rejected_total{code="conflict"} 2.0',
        'tallyman_decisions_total{operation="consume",outcome="denied"} 1.0',
        'tallyman_decision_denials_total{reason="insufficient"} 1.0',
        'tallyman_log_fsync_seconds_bucket{le="0.0025"} 1.0',
        'tallyman_log_fsync_seconds_bucket{le="+Inf"} 2.0',
        "tallyman_ingest_queue_events 7.0",
        "tallyman_ingest_queue_bytes 70.0",
    ):
        assert line in text, line
