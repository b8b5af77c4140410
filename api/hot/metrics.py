"""GET /metrics: what the processes count, in Prometheus' text format.

All gateways share one port, so the answer joins every process's numbers: each sample carries
``process`` (``n1``, ``n2``, …, ``worker``), whichever of them was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond

disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter(
    "tallyman_http_requests_total", "Answers, by route and status.", ["method", "route", "status"]
)
SECONDS = Histogram(
    "tallyman_http_request_seconds",
    "From the headers to the end of the answer.",
    ["route"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
CATALOG_REVISION = Gauge("tallyman_catalog_revision", "Statements the process has read.")

Fetch = Callable[[], Awaitable[str]]
"""The metrics text of another process."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observer:
    """Counts answers. Label look-ups are kept: they cost more than the counting."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def __call__(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. ``route`` is a template, so there are boundedly many."""
        method = method if method in _METHODS else "other"
        key = (method, route, status)
        if key not in self._counters:
            self._counters[key] = REQUESTS.labels(method, route, str(status))
        self._counters[key].inc()
        if route not in self._histograms:
            self._histograms[route] = SECONDS.labels(route)
        self._histograms[route].observe(seconds)


def own_metrics() -> str:
    """This process's metrics as text."""
    return generate_latest(REGISTRY).decode()


class Metrics:
    """The joined metrics of this process and its siblings; one that is away is left out."""

    def __init__(self, *, process: str, others: Callable[[], Mapping[str, Fetch]]) -> None:
        self._process = process
        self._others = others

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Ask everybody and answer."""
        others = self._others()
        asked = (fetch() for fetch in others.values())
        texts = await asyncio.gather(*asked, return_exceptions=True)
        found = {self._process: own_metrics()}
        found |= {
            name: text for name, text in zip(others, texts, strict=True) if isinstance(text, str)
        }
        body = await asyncio.to_thread(join, found)
        await respond(send, body, content_type=CONTENT_TYPE_LATEST.encode())


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
