"""GET /metrics: what the processes count, in Prometheus' text format.

All gateways share one port, so the answer joins every process's numbers: each sample carries
``process`` (``n1``, ``n2``, …, ``worker``), whichever of them was asked.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Gauge,
    disable_created_metrics,
)
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond
from api.hot.shared import Shared

disable_created_metrics()  # type: ignore[no-untyped-call]

CATALOG_REVISION = Gauge("tallyman_catalog_revision", "Statements the process has read.")

Fetch = Callable[[], Awaitable[str]]
"""The metrics text of another process."""

_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observer(Collector):
    """Counts answers: plain numbers of one event loop, which a scrape turns into metrics.

    prometheus-client's own counters lock and look labels up at every count, which costs a gateway
    more than finding out who asks.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def __call__(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. ``route`` is a template, so there are boundedly many."""
        key = (method if method in _METHODS else "other", route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(_BOUNDS_S) + 1)
        buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def collect(self) -> Iterator[Metric]:
        """The two metrics, as the registry asks for them."""
        counted = CounterMetricFamily(
            "tallyman_http_requests",
            "Answers, by route and status.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), count in sorted(self._counts.items()):
            counted.add_metric([method, route, str(status)], count)
        timed = HistogramMetricFamily(
            "tallyman_http_request_seconds",
            "From the headers to the end of the answer.",
            labels=["route"],
        )
        for route, buckets in sorted(self._buckets.items()):
            bounds = [*map(floatToGoString, _BOUNDS_S), "+Inf"]
            sums = list(zip(bounds, accumulate(map(float, buckets)), strict=True))
            timed.add_metric([route], buckets=sums, sum_value=self._seconds[route])
        yield counted
        yield timed


observe_answers = Observer()
"""This process's answers; in the registry like every other metric."""
REGISTRY.register(observe_answers)


def own_metrics() -> str:
    """This process's metrics as text."""
    return generate_latest(REGISTRY).decode()


class Metrics:
    """The joined metrics of this process and its siblings; one that is away is left out."""

    def __init__(self, *, process: str, others: Callable[[], Mapping[str, Fetch]]) -> None:
        self._process = process
        self._others = others
        self._joined = Shared(self._join)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Ask everybody and answer."""
        await respond(send, await self._joined.get(), content_type=CONTENT_TYPE_LATEST.encode())

    async def _join(self) -> bytes:
        others = self._others()
        asked = (fetch() for fetch in others.values())
        texts = await asyncio.gather(*asked, return_exceptions=True)
        found = {self._process: own_metrics()}
        found |= {
            name: text for name, text in zip(others, texts, strict=True) if isinstance(text, str)
        }
        return await asyncio.to_thread(join, found)


def join(texts: Mapping[str, str]) -> bytes:
    """One exposition of several, by process name, with one block a metric."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Joined(texts))
    return generate_latest(registry)


class _Joined(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                joined = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = sample.labels | {"process": process}
                    joined.samples.append(sample._replace(labels=labels))
        yield from families.values()
