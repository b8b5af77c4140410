"""Writes docs/metrics.md from what processes register (``python -m tests.docs.metrics_page``)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

INTRODUCTION = """\
# Metrics

`GET /metrics` of any gateway answers for all processes of its machine: each sample has a label
`process` (`n1`, `n2`, …, `worker`) beside those below. Besides these there are `process_*` and
`python_*` of the Prometheus client, and `tallyman_ledger_reader_process_*` of the worker's child.

This page is written by `python -m tests.docs.metrics_page > docs/metrics.md`; a test compares.

| metric | type | labels | |
|---|---|---|---|
"""
OURS = "tallyman_"
PROCESSES = ("api.wiring.gateway", "api.wiring.worker")


@dataclass(frozen=True, order=True)
class Described:
    """One metric as a reader of the page sees it."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str


def described() -> list[Described]:
    """Every metric of ours that a process registers."""
    for name in PROCESSES:
        importlib.import_module(name)
    return sorted(_registered())


def _registered() -> Iterator[Described]:
    for collector in list(REGISTRY._collector_to_names):
        for family in collector.collect():
            if family.name.startswith(OURS):
                assert family.documentation, family.name
                labels = getattr(collector, "_labelnames", None) or getattr(
                    family, "_labelnames", ()
                )
                yield Described(_exposed(family), family.type, tuple(labels), family.documentation)


def _exposed(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def metrics_page() -> str:
    """The whole page."""
    rows = (
        f"| `{each.name}` | {each.type} | {', '.join(f'`{name}`' for name in each.labels)} "
        f"| {each.text} |\n"
        for each in described()
    )
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    print(metrics_page(), end="")
