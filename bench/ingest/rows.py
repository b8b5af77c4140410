"""What is measured of ingest."""

from __future__ import annotations

from dataclasses import replace

from bench.ingest.against_sink import Shape, measure_throughput
from bench.ingest.freshness import (
    Seen,
    measure_freshness,
    seen_in_balance,
    seen_in_events,
    seen_in_usage,
)
from bench.ingest.latency import measure_latency
from bench.ingest.overload import measure_overload
from bench.ingest.sustained import measure_sustained
from bench.load.events import arrow_bodies, json_bodies
from bench.registry import Context, Goal, Measured, Row

TITLE = "Ingest"
SINK = "a bare ASGI sink, raw bodies, group commit, fdatasync"
BATCH_JSON, ONE_JSON = "application/cloudevents-batch+json", "application/cloudevents+json"
ARROW = "application/vnd.apache.arrow.stream"


def _row(
    name: str, title: str, shape: Shape, *, quick: int, goal: Goal | None, attached: bool = False
) -> Row:
    def measure(context: Context) -> Measured:
        sized = replace(shape, events=context.size(shape.events, quick))
        return measure_throughput(context, sized, attached=attached)

    return Row(key=f"ingest/{name}", title=title, against=SINK, goal=goal, measure=measure)


def _json(batch: int, connections: int, goal: Goal | None, *, attached: bool = False) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=600_000,
        bodies=json_bodies,
        content_type=BATCH_JSON,
    )
    index, suffix = ("50 M identities attached", "-50m") if attached else ("empty index", "")
    title = f"durable JSON ingest, {batch:,} a request, {index}, gateway alone"
    return _row(f"json-{batch}{suffix}", title, shape, quick=200_000, goal=goal, attached=attached)


def _single(connections: int, goal: Goal) -> Row:
    shape = Shape(
        batch=1,
        connections=connections,
        events=60_000,
        bodies=json_bodies,
        content_type=ONE_JSON,
    )
    title = f"single-event requests, {connections} connections, gateway alone"
    return _row(f"single-{connections}", title, shape, quick=20_000, goal=goal)


def _arrow(batch: int, connections: int, goal: Goal) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=2_000_000,
        bodies=arrow_bodies,
        content_type=ARROW,
    )
    title = f"Arrow bodies, {batch:,} rows, gateway alone"
    return _row(f"arrow-{batch}", title, shape, quick=400_000, goal=goal)


def _latency(batch: int, connections: int, events: int, goal: Goal) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=events,
        bodies=json_bodies,
        content_type=ONE_JSON if batch == 1 else BATCH_JSON,
    )
    what = "single events" if batch == 1 else f"batches of {batch}"
    return Row(
        key=f"ingest/latency-{batch}",
        title=f"ack latency at half of own maximum, p99, {what}",
        against="the same sink at the same offered rate",
        goal=goal,
        measure=lambda context: measure_latency(context, shape),
    )


def _sustained(batch: int, connections: int) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=300_000,
        bodies=json_bodies,
        content_type=BATCH_JSON,
    )
    return Row(
        key=f"ingest/json-{batch}-sustained",
        title=f"durable JSON ingest, {batch:,} a request, readers keeping up",
        against="the same sink's maximum",
        goal=None,
        measure=lambda context: measure_sustained(context, shape),
    )


LOADED = Shape(
    batch=100, connections=64, events=150_000, bodies=json_bodies, content_type=BATCH_JSON
)


def _freshness(name: str, title: str, seen: Seen, *, unit: str, goal: Goal) -> Row:
    return Row(
        key=f"ingest/{name}",
        title=f"{title}, at half load, p99",
        against="wall clock",
        goal=goal,
        measure=lambda context: measure_freshness(context, LOADED, seen, unit=unit),
    )


def _overload() -> Row:
    shape = Shape(
        batch=1_000, connections=32, events=300_000, bodies=json_bodies, content_type=BATCH_JSON
    )
    return Row(
        key="ingest/overload",
        title="memory under sustained overload",
        against="itself, the middle third of the time",
        goal=Goal(reach=1.1, at_most=True),
        measure=lambda context: measure_overload(context, shape),
    )


VISIBLE = Goal(reach=1, stretch=0.5, at_most=True)
BALANCE = Goal(reach=50, stretch=10, at_most=True)
JSON_GOAL = Goal(reach=0.40, stretch=0.55)

ROWS = [
    _json(1_000, 32, JSON_GOAL, attached=True),
    _json(100, 64, JSON_GOAL, attached=True),
    _json(1_000, 32, None),
    _json(100, 64, None),
    _single(64, Goal(reach=0.75, stretch=0.90)),
    _single(256, Goal(reach=0.85, stretch=0.95)),
    _arrow(1_000, 32, Goal(reach=0.45, stretch=0.60)),
    _arrow(10_000, 16, Goal(reach=0.55, stretch=0.75)),
    _latency(1, 256, 60_000, Goal(reach=1.7, stretch=1.2, at_most=True)),
    _latency(100, 64, 600_000, Goal(reach=2.6, stretch=1.5, at_most=True)),
    _sustained(1_000, 32),
    _sustained(100, 64),
    _freshness("visible", "ack → found by a look-up", seen_in_events, unit="s, p99", goal=VISIBLE),
    _freshness("usage", "ack → in a meter's usage", seen_in_usage, unit="s, p99", goal=VISIBLE),
    _freshness("balance", "ack → balance", seen_in_balance, unit="ms, p99", goal=BALANCE),
    _overload(),
]
