"""What a gateway counts besides answers: events, decisions, fsyncs, its queue.

Plain numbers of one process, like :class:`api.hot.metrics.Observer`: prometheus-client's counters
lock and look labels up at every count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_FSYNC_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10)


class Refusal(Protocol):
    """One rejected event."""

    @property
    def code(self) -> str:
        """Why."""
        ...


class Taken(Protocol):
    """What became of a body of events."""

    @property
    def accepted(self) -> int:
        """Kept, durably."""
        ...

    @property
    def duplicates(self) -> int:
        """There already."""
        ...

    @property
    def rejected(self) -> Sequence[Refusal]:
        """Not kept."""
        ...


class Item(Protocol):
    """One item of a decision."""

    @property
    def reason(self) -> str | None:
        """Why it was denied, or null."""
        ...


class Decided(Protocol):
    """A decision on entitlements."""

    @property
    def allowed(self) -> bool:
        """All of it, or nothing."""
        ...

    @property
    def items(self) -> Sequence[Item]:
        """One by one."""
        ...


class GatewayCounts(Collector):
    """The counts of one gateway. Counting never fails and never waits."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}
        self._rejected: dict[str, int] = {}
        self._decisions: dict[tuple[str, str], int] = {}
        self._denied: dict[str, int] = {}
        self._fsyncs = [0] * (len(_FSYNC_BOUNDS_S) + 1)
        self._fsync_seconds = 0.0
        self.queue: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Tells the events and the bytes that wait to be written."""

    def took(self, outcome: Taken) -> None:
        """Count a body of events."""
        events = self._events
        events["accepted"] = events.get("accepted", 0) + outcome.accepted
        events["duplicate"] = events.get("duplicate", 0) + outcome.duplicates
        if outcome.rejected:
            events["rejected"] = events.get("rejected", 0) + len(outcome.rejected)
            for refusal in outcome.rejected:
                self._rejected[refusal.code] = self._rejected.get(refusal.code, 0) + 1

    def decided(self, operation: str, decision: Decided) -> None:
        """Count a decision, and why items were denied."""
        key = operation, "allowed" if decision.allowed else "denied"
        self._decisions[key] = self._decisions.get(key, 0) + 1
        if not decision.allowed:
            for item in decision.items:
                if item.reason is not None:
                    reason = str(item.reason)
                    self._denied[reason] = self._denied.get(reason, 0) + 1

    def decided_all(self, operation: str, decisions: Sequence[Decided]) -> None:
        """Count decisions, like :meth:`decided` each of them."""
        denied = [decision for decision in decisions if not decision.allowed]
        if allowed := len(decisions) - len(denied):
            key = operation, "allowed"
            self._decisions[key] = self._decisions.get(key, 0) + allowed
        for decision in denied:
            self.decided(operation, decision)

    def synced(self, seconds: float) -> None:
        """Count an fsync of the log."""
        self._fsyncs[bisect_left(_FSYNC_BOUNDS_S, seconds)] += 1
        self._fsync_seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """The metrics, as the registry asks for them."""
        yield _counter("tallyman_events", "Events received, by outcome.", ["outcome"], self._events)
        text = "Events rejected, by code."
        yield _counter("tallyman_events_rejected", text, ["code"], self._rejected)
        text = "Decisions on entitlements, by operation and outcome."
        yield _counter("tallyman_decisions", text, ["operation", "outcome"], self._decisions)
        text = "Items of decisions that were denied, by reason."
        yield _counter("tallyman_decision_denials", text, ["reason"], self._denied)
        synced = HistogramMetricFamily("tallyman_log_fsync_seconds", "One fsync of the log.")
        bounds = [*map(floatToGoString, _FSYNC_BOUNDS_S), "+Inf"]
        sums = list(zip(bounds, accumulate(map(float, self._fsyncs)), strict=True))
        synced.add_metric([], buckets=sums, sum_value=self._fsync_seconds)
        yield synced
        events, size_bytes = self.queue()
        text = "Events that wait to be written."
        yield GaugeMetricFamily("tallyman_ingest_queue_events", text, value=events)
        text = "Bytes of the events that wait to be written."
        yield GaugeMetricFamily("tallyman_ingest_queue_bytes", text, value=size_bytes)


def _counter(
    name: str, text: str, labels: list[str], counts: dict[str, int] | dict[tuple[str, str], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in sorted(counts.items()):
        family.add_metric([key] if isinstance(key, str) else list(key), count)
    return family


counts = GatewayCounts()
"""This process's; in the registry like every other metric."""
REGISTRY.register(counts)
