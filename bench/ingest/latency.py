"""How long an ack takes at half of the gateway's own maximum, and the sink at that same rate."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from bench.gate import expect, expect_accepted, expect_all_answered
from bench.ingest.against_sink import FSYNC, Shape, make_requests
from bench.ingest.logged import expect_logged
from bench.ingest.servers import (
    NODE,
    Served,
    Tallyman,
    running_gateway,
    running_sink,
    settings_of,
)
from bench.load.events import Requests, make_events
from bench.load.generator import Generator, Load, Sent
from bench.pairing import interleave, middle
from bench.processes import only
from bench.profile import profiled
from bench.registry import Context, Measured

PERCENT = 99
LOAD = 0.5
OPEN_CONNECTIONS = 512
MAXIMUM_ROUNDS = 3


class PairedLatency:
    """One row's rounds: first the gateway's own maximum, then both sides at half of it."""

    def __init__(self, context: Context, shape: Shape, *, round_s: float) -> None:
        self.context = context
        self.shape = shape
        self.round_s = round_s
        self.generator = Generator.compiled(context.cache, core=context.load_core)
        self.rate = 0.0
        self.maximum = 0.0
        self.kept = 0
        self.medians_ms: dict[str, list[float]] = {"gateway": [], "sink": []}
        self._requests: Requests | None = None

    def find_maximum(self, tallyman: Tallyman, sink: Served) -> None:
        """Requests a second, closed loop: the median of a few rounds after one to warm up."""
        seen = []
        for number in range(MAXIMUM_ROUNDS + 1):
            self._make(number + 500, self.shape.events)
            with only(tallyman.gateway.process, sink.process):
                load = Load(connections=self.shape.connections)
                seen.append(self._send(tallyman.gateway, load).per_second)
            self.kept += self.shape.events
        self.maximum = middle(seen[1:])
        self.rate = self.maximum * LOAD

    def prepare(self, number: int) -> None:
        """Make the events of one round: as many as arrive in its time."""
        requests = max(1, int(self.rate * self.round_s))
        self._make(number + 1_000, requests * self.shape.batch)

    def ours(self, number: int, tallyman: Tallyman, sink: Served) -> float:
        """The gateway's percentile, milliseconds."""
        assert self._requests is not None
        with only(tallyman.gateway.process, sink.process):
            sent = self._send(tallyman.gateway, self._load(number))
        expect_accepted(sent, events=self._requests.events, who="gateway")
        self.kept += self._requests.events
        self.medians_ms["gateway"].append(sent.percentile_ms(50))
        return sent.percentile_ms(PERCENT)

    def theirs(self, number: int, tallyman: Tallyman, sink: Served, path: Path) -> float:
        """The sink's percentile, milliseconds."""
        assert self._requests is not None
        with only(sink.process, tallyman.gateway.process):
            sent = self._send(sink, self._load(number))
        expect_all_answered(sent, who="sink")
        expect("bytes in the sink", seen=path.stat().st_size, wanted=self._requests.body_bytes)
        path.write_bytes(b"")
        self.medians_ms["sink"].append(sent.percentile_ms(50))
        return sent.percentile_ms(PERCENT)

    def _load(self, number: int) -> Load:
        return Load(connections=OPEN_CONNECTIONS, rate=self.rate, seed=number + 1_000)

    def _make(self, seed: int, events: int) -> None:
        path = self.context.scratch / "requests"
        self._requests = make_requests(path, make_events(events, seed=seed), self.shape)

    def _send(self, server: Served, load: Load) -> Sent:
        assert self._requests is not None
        return self.generator.send(self._requests.path, port=server.port, load=load)


def measure_latency(context: Context, shape: Shape) -> Measured:
    """Both sides' 99th percentile, open loop, at half of the gateway's closed-loop maximum."""
    sized = replace(shape, events=context.size(shape.events, shape.events // 3))
    rounds = PairedLatency(context, sized, round_s=context.size(6, 3))
    path = context.scratch / "sink.bodies"
    settings = settings_of(context.scratch / "d")
    with contextlib.ExitStack() as stack:
        tallyman = stack.enter_context(
            running_gateway(settings, core=context.core, other_core=context.load_core)
        )
        sink = stack.enter_context(running_sink(path, core=context.core))
        gateway = tallyman.gateway.process
        stack.enter_context(profiled(gateway, context.profile, core=context.load_core))
        rounds.find_maximum(tallyman, sink)
        paired = interleave(
            lambda number: rounds.ours(number, tallyman, sink),
            lambda number: rounds.theirs(number, tallyman, sink, path),
            rounds=context.rounds,
            prepare=rounds.prepare,
        )
    expect_logged(tallyman.node_directory, NODE, events=rounds.kept)
    medians = {side: middle(seen) for side, seen in rounds.medians_ms.items()}
    return Measured(
        unit="ms, p99",
        paired=paired,
        method={
            "batch": f"{shape.batch:,} a request, {shape.content_type}",
            "offered": f"{rounds.rate:,.0f} requests/s, Poisson, open loop, to either side",
            "own maximum": f"{rounds.maximum:,.0f} requests/s by {shape.connections} connections",
            "concurrency": f"up to {OPEN_CONNECTIONS} connections; waiting for one counts",
            "sent": f"{rounds.round_s:g} s a side and round, every identity once, to either side",
            "fsync": FSYNC,
            "pinning": f"server on core {context.core}, generator on core {context.load_core}",
        },
        facts={
            "p50": f"{medians['gateway']:.2f} ms against {medians['sink']:.2f} ms",
        },
    )
