"""Throughput beside the sink: the same requests to both, turn by turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bench.gate import expect, expect_accepted, expect_all_answered
from bench.ingest.logged import expect_logged
from bench.ingest.servers import (
    KEY,
    NODE,
    Served,
    Tallyman,
    running_gateway,
    running_sink,
    settings_of,
)
from bench.load.events import Requests, make_events, write_requests
from bench.load.generator import Generator, Load, Sent
from bench.pairing import interleave, middle
from bench.processes import only
from bench.profile import profiled
from bench.registry import Context, Measured

FSYNC = "fdatasync before every reply on both sides, shared by whoever waits (group commit)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is sent, and by how many connections at once."""

    batch: int
    connections: int
    events: int
    bodies: Callable[..., list[bytes]]
    content_type: str


@dataclass(slots=True, kw_only=True)
class Busy:
    """How busy the cores were: the server's should be full, the generator's not."""

    server: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)

    def add(self, server: Served, before_s: float, sent: Sent) -> None:
        """Note one round."""
        self.server.append((server.process.cpu_s() - before_s) / sent.elapsed_s)
        self.generator.append(sent.cpu_s / sent.elapsed_s)

    def __str__(self) -> str:
        return f"{middle(self.server):.0%} of its core, generator {middle(self.generator):.0%}"


class PairedIngest:
    """One row's rounds: makes each round's events, sends them to both sides, checks both."""

    def __init__(self, context: Context, shape: Shape) -> None:
        self.context = context
        self.shape = shape
        self.generator = Generator.compiled(context.cache, core=context.load_core)
        self.kept = 0
        self.busy = {"gateway": Busy(), "sink": Busy()}
        self._requests: Requests | None = None

    def prepare(self, number: int) -> None:
        """Make the events of one round; the gateway and the sink get the same bytes."""
        events = make_events(self.shape.events, seed=number + 1_000)
        self._requests = make_requests(self.context.scratch / "requests", events, self.shape)

    def ours(self, tallyman: Tallyman, sink: Served) -> float:
        """Events a second into the gateway."""
        with only(tallyman.gateway.process, sink.process):
            sent = self._send(tallyman.gateway, "gateway")
        expect_accepted(sent, events=self.shape.events, who="gateway")
        self.kept += self.shape.events
        return self.shape.events / sent.elapsed_s

    def theirs(self, tallyman: Tallyman, sink: Served, path: Path) -> float:
        """Events a second into the sink."""
        with only(sink.process, tallyman.gateway.process):
            sent = self._send(sink, "sink")
        expect_all_answered(sent, who="sink")
        assert self._requests is not None
        expect("bytes in the sink", seen=path.stat().st_size, wanted=self._requests.body_bytes)
        path.write_bytes(b"")
        return self.shape.events / sent.elapsed_s

    def _send(self, server: Served, name: str) -> Sent:
        assert self._requests is not None
        before_s = server.process.cpu_s()
        load = Load(connections=self.shape.connections)
        sent = self.generator.send(self._requests.path, port=server.port, load=load)
        self.busy[name].add(server, before_s, sent)
        return sent


def make_requests(path: Path, events: pl.DataFrame, shape: Shape) -> Requests:
    """The requests for ``events`` in a file."""
    return write_requests(
        path,
        shape.bodies(events, batch=shape.batch),
        events=events.height,
        key=KEY,
        content_type=shape.content_type,
    )


def measure_throughput(context: Context, shape: Shape) -> Measured:
    """Both sides' events a second, closed loop, the gateway alone on its core."""
    rounds = PairedIngest(context, shape)
    kept = context.scratch / "sink.bodies"
    settings = settings_of(context.scratch / "d")
    with contextlib.ExitStack() as stack:
        tallyman = stack.enter_context(
            running_gateway(settings, core=context.core, other_core=context.load_core)
        )
        sink = stack.enter_context(running_sink(kept, core=context.core))
        gateway = tallyman.gateway.process
        stack.enter_context(profiled(gateway, context.profile, core=context.load_core))
        paired = interleave(
            lambda _: rounds.ours(tallyman, sink),
            lambda _: rounds.theirs(tallyman, sink, kept),
            rounds=context.rounds,
            prepare=rounds.prepare,
        )
        memory = gateway.rss_bytes()
    expect_logged(tallyman.node_directory, NODE, events=rounds.kept)
    return Measured(
        unit="events/s",
        paired=paired,
        method=method_of(context, shape),
        facts={
            "gateway busy": str(rounds.busy["gateway"]),
            "sink busy": str(rounds.busy["sink"]),
            "gateway's memory at the end": f"{memory / 2**20:,.0f} MiB",
        },
    )


def method_of(context: Context, shape: Shape) -> dict[str, str | int | float]:
    """How it was measured."""
    return {
        "batch": f"{shape.batch:,} a request, {shape.content_type}",
        "concurrency": f"{shape.connections} connections, one request in flight each, closed loop",
        "sent": f"{shape.events:,} events a side and round, every identity once, to either side",
        "fsync": FSYNC,
        "pinning": f"server on core {context.core}, generator on core {context.load_core}",
    }
