"""What is measured of ingest."""

from __future__ import annotations

from bench.ingest.against_sink import Shape, measure_throughput
from bench.load.events import arrow_bodies, json_bodies
from bench.registry import Context, Goal, Measured, Row

TITLE = "Ingest"
SINK = "a bare ASGI sink, raw bodies, group commit, fdatasync"
BATCH_JSON, ONE_JSON = "application/cloudevents-batch+json", "application/cloudevents+json"
ARROW = "application/vnd.apache.arrow.stream"


def _json(batch: int, connections: int, goal: Goal) -> Row:
    def measure(context: Context) -> Measured:
        events = context.size(600_000, 200_000)
        shape = Shape(
            batch=batch,
            connections=connections,
            events=events,
            bodies=json_bodies,
            content_type=BATCH_JSON,
        )
        return measure_throughput(context, shape)

    title = f"durable JSON ingest, {batch:,} a request, gateway alone"
    return Row(
        key=f"ingest/json-{batch}", title=title, against=SINK, goal=goal, measure=measure
    )


ROWS = [
    _json(1_000, 32, Goal(reach=0.40, stretch=0.55)),
    _json(100, 64, Goal(reach=0.40, stretch=0.55)),
]
