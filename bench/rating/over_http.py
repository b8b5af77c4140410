"""One customer's current totals, as a caller sees them: HTTP, relay, heartbeat, readers, rating."""

from __future__ import annotations

import contextlib
import time

import httpx

from bench.gate import BenchFailed, expect_accepted
from bench.ingest.against_sink import Shape, make_requests
from bench.ingest.backlog import Backlog, watched_backlog
from bench.ingest.logged import expect_logged
from bench.ingest.servers import NODE, Tallyman, running_gateway, settings_of
from bench.load.business import CUSTOMERS_SERVED, business
from bench.load.events import json_bodies, make_events
from bench.load.generator import Generator, Load
from bench.registry import Context, Measured

ASKED, WARMING = 420, 20
PART = 250_000
SHAPE = Shape(
    batch=1_000,
    connections=32,
    events=PART,
    bodies=json_bodies,
    content_type="application/cloudevents-batch+json",
)


def measure_current(context: Context) -> Measured:
    """The 99th percentile of GET …/current, customers one after another, nothing else going on."""
    events = context.size(5_000_000, 500_000)
    with contextlib.ExitStack() as stack:
        tallyman = stack.enter_context(
            running_gateway(
                settings_of(context.scratch / "d"),
                core=context.core,
                other_core=context.load_core,
                worker=True,
                catalog=business(),
            )
        )
        backlog = stack.enter_context(watched_backlog(tallyman))
        _fill(context, tallyman, backlog, events=events)
        with tallyman.client() as client:
            taken_ms = sorted([_asked(client, number) for number in range(ASKED)][WARMING:])
    expect_logged(tallyman.node_directory, NODE, events=events)
    return Measured(
        unit="ms, p99",
        value=taken_ms[len(taken_ms) * 99 // 100],
        method={
            "events": f"{events:,} of this month, sent and read before; what 50 M behind change "
            "is the row in process",
            "asked": f"{len(taken_ms)} customers with a contract once each, one after another; "
            "every answer counts all that was acknowledged before",
            "pinning": f"gateway on core {context.core}; worker and the one who asks share core "
            f"{context.load_core}",
        },
        facts={"median": f"{taken_ms[len(taken_ms) // 2]:.1f} ms", "max": f"{taken_ms[-1]:.1f} ms"},
    )


def _fill(context: Context, tallyman: Tallyman, backlog: Backlog, *, events: int) -> None:
    """Send the events in parts, each read before the next."""
    generator = Generator.compiled(context.cache, core=context.load_core)
    for part in range(events // PART):
        made = make_events(PART, seed=5_000 + part)
        requests = make_requests(context.scratch / "part", made, SHAPE)
        load = Load(connections=SHAPE.connections)
        sent = generator.send(requests.path, port=tallyman.gateway.port, load=load)
        expect_accepted(sent, events=requests.events, who="gateway")
        backlog.wait_until_drained()


def _asked(client: httpx.Client, number: int) -> float:
    """Milliseconds for one customer.

    Raises:
        BenchFailed: it was not answered.
    """
    customer = f"cust-{1 + number % (CUSTOMERS_SERVED - 1)}"
    began_s = time.perf_counter()
    answer = client.get(f"/v1/customers/{customer}/current")
    taken_ms = (time.perf_counter() - began_s) * 1_000
    if answer.status_code != 200 or not answer.json()["items"]:
        raise BenchFailed(f"{customer}: {answer.status_code} {answer.text[:200]}")
    return taken_ms
