"""What is measured of ingest."""

from __future__ import annotations

from dataclasses import replace

from bench.ingest.against_sink import Shape, measure_throughput
from bench.load.events import arrow_bodies, json_bodies
from bench.registry import Context, Goal, Measured, Row

TITLE = "Ingest"
SINK = "a bare ASGI sink, raw bodies, group commit, fdatasync"
BATCH_JSON, ONE_JSON = "application/cloudevents-batch+json", "application/cloudevents+json"
ARROW = "application/vnd.apache.arrow.stream"


def _row(name: str, title: str, shape: Shape, quick_events: int, goal: Goal) -> Row:
    def measure(context: Context) -> Measured:
        sized = replace(shape, events=context.size(shape.events, quick_events))
        return measure_throughput(context, sized)

    return Row(key=f"ingest/{name}", title=title, against=SINK, goal=goal, measure=measure)


def _json(batch: int, connections: int, goal: Goal) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=600_000,
        bodies=json_bodies,
        content_type=BATCH_JSON,
    )
    title = f"durable JSON ingest, {batch:,} a request, gateway alone"
    return _row(f"json-{batch}", title, shape, 200_000, goal)


def _single(connections: int, goal: Goal) -> Row:
    shape = Shape(
        batch=1,
        connections=connections,
        events=60_000,
        bodies=json_bodies,
        content_type=ONE_JSON,
    )
    title = f"single-event requests, {connections} connections, gateway alone"
    return _row(f"single-{connections}", title, shape, 20_000, goal)


def _arrow(batch: int, connections: int, goal: Goal) -> Row:
    shape = Shape(
        batch=batch,
        connections=connections,
        events=2_000_000,
        bodies=arrow_bodies,
        content_type=ARROW,
    )
    title = f"Arrow bodies, {batch:,} rows, gateway alone"
    return _row(f"arrow-{batch}", title, shape, 400_000, goal)


ROWS = [
    _json(1_000, 32, Goal(reach=0.40, stretch=0.55)),
    _json(100, 64, Goal(reach=0.40, stretch=0.55)),
    _single(64, Goal(reach=0.75, stretch=0.90)),
    _single(256, Goal(reach=0.85, stretch=0.95)),
    _arrow(1_000, 32, Goal(reach=0.45, stretch=0.60)),
    _arrow(10_000, 16, Goal(reach=0.55, stretch=0.75)),
]
