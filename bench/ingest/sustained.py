"""What the whole service keeps up with: the readers follow, and the backlog stays flat."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.gate import BenchFailed, expect, expect_accepted, expect_all_answered
from bench.ingest.against_sink import FSYNC, Shape, make_requests
from bench.ingest.backlog import Backlog, watched_backlog
from bench.ingest.logged import expect_logged
from bench.ingest.servers import (
    NODE,
    Served,
    Tallyman,
    running_gateway,
    running_sink,
    settings_of,
)
from bench.load.business import CUSTOMERS_SERVED, business
from bench.load.events import Requests, make_events
from bench.load.generator import Generator, Load
from bench.pairing import Paired, interleave, middle
from bench.processes import only
from bench.profile import profiled
from bench.registry import Context, Measured

OPEN_CONNECTIONS = 512
DRAIN_S_MAX = 3.0
FIRST_SHARE, NEXT_SHARE, TRIES_MAX = 0.95, 0.8, 6


class Sustained:
    """Finds the rate at which the readers keep up, and measures at that rate."""

    def __init__(
        self, context: Context, shape: Shape, tallyman: Tallyman, backlog: Backlog
    ) -> None:
        self.shape = shape
        self.rate = 0.0
        self.kept = 0
        self.behind_s: list[float] = []
        self._path = context.scratch / "requests"
        self._tallyman = tallyman
        self._backlog = backlog
        self._generator = Generator.compiled(context.cache, core=context.load_core)
        self._seed = 2_000

    def at_a_flat_rate(self, measure: Callable[[], Paired]) -> Paired:
        """Flood it, see how long until all is read, then step down until every round is flat.

        Raises:
            BenchFailed: no rate was found.
        """
        self.estimate()
        self.rate *= FIRST_SHARE
        for _ in range(TRIES_MAX):
            self.behind_s.clear()
            with contextlib.suppress(_NotFlat):
                return measure()
            self.rate *= NEXT_SHARE
        raise BenchFailed("the readers keep up with no rate that was tried")

    def estimate(self) -> float:
        """Events a second from the first one sent to the last one read, and set as the rate."""
        seen = []
        for _ in range(3):
            requests = self._make(self.shape.events)
            load = Load(connections=self.shape.connections)
            sent = self._generator.send(requests.path, port=self._tallyman.gateway.port, load=load)
            expect_accepted(sent, events=requests.events, who="gateway")
            self.kept += requests.events
            drained_s = self._backlog.wait_until_drained()
            seen.append(requests.events / (sent.elapsed_s + drained_s))
        self.rate = middle(seen[1:])
        return self.rate

    def measure(self, round_s: float) -> float:
        """Events a second at the rate, open loop, all read soon after the last was sent.

        Raises:
            BenchFailed: an answer was wrong, or the readers fell behind.
        """
        requests = self._make(int(self.rate * round_s) // self.shape.batch * self.shape.batch)
        load = Load(
            connections=OPEN_CONNECTIONS, rate=self.rate / self.shape.batch, seed=self._seed
        )
        sent = self._generator.send(requests.path, port=self._tallyman.gateway.port, load=load)
        expect_accepted(sent, events=requests.events, who="gateway")
        self.kept += requests.events
        behind_s = self._backlog.wait_until_drained()
        self.behind_s.append(behind_s)
        if behind_s > DRAIN_S_MAX:
            raise _NotFlat(f"the readers were {behind_s:.1f} s behind at the end")
        return requests.events / sent.elapsed_s

    def sink(self, sink: Served, kept: Path) -> float:
        """Events a second into the sink, closed loop, the service stopped."""
        assert self._tallyman.worker is not None
        requests = self._make(self.shape.events)
        with only(sink.process, self._tallyman.gateway.process, self._tallyman.worker):
            load = Load(connections=self.shape.connections)
            sent = self._generator.send(requests.path, port=sink.port, load=load)
        expect_all_answered(sent, who="sink")
        expect("bytes in the sink", seen=kept.stat().st_size, wanted=requests.body_bytes)
        kept.write_bytes(b"")
        return requests.events / sent.elapsed_s

    def _make(self, events: int) -> Requests:
        self._seed += 1
        return make_requests(self._path, make_events(events, seed=self._seed), self.shape)


class _NotFlat(BenchFailed):
    """The readers fell behind at this rate."""


def measure_sustained(context: Context, shape: Shape) -> Measured:
    """The rate the whole service keeps up with, over the sink's maximum."""
    shape = replace(shape, events=context.size(shape.events, shape.events // 3))
    round_s = context.size(15, 6)
    kept = context.scratch / "sink.bodies"
    settings = settings_of(context.scratch / "d")
    with contextlib.ExitStack() as stack:
        tallyman = stack.enter_context(
            running_gateway(
                settings,
                core=context.core,
                other_core=context.load_core,
                worker=True,
                catalog=business(),
            )
        )
        backlog = stack.enter_context(watched_backlog(tallyman))
        sink = stack.enter_context(running_sink(kept, core=context.core))
        backlog.wait_until_drained()
        assert tallyman.worker is not None
        stack.enter_context(profiled(tallyman.worker, context.profile, core=context.load_core))
        sustained = Sustained(context, shape, tallyman, backlog)
        paired = sustained.at_a_flat_rate(
            lambda: interleave(
                lambda _: sustained.measure(round_s),
                lambda _: sustained.sink(sink, kept),
                rounds=min(context.rounds, 3),
            )
        )
    expect_logged(tallyman.node_directory, NODE, events=sustained.kept)
    return Measured(
        unit="events/s",
        paired=paired,
        method=_method(context, shape, rate=sustained.rate, round_s=round_s),
        facts={"readers level after": f"{middle(sustained.behind_s):.2f} s"},
    )


def _method(context: Context, shape: Shape, *, rate: float, round_s: float) -> dict[str, str]:
    return {
        "batch": f"{shape.batch:,} a request, {shape.content_type}",
        "offered": f"{rate:,.0f} events/s, Poisson, open loop, {round_s} s a round; "
        f"the sink closed loop by {shape.connections} connections",
        "flat": f"every reader level within {DRAIN_S_MAX:g} s of the last event "
        f"(ClickHouse takes a batch a second)",
        "catalog": f"two meters; {CUSTOMERS_SERVED:,} customers with contract and entitlement",
        "fsync": FSYNC,
        "pinning": f"gateway or sink on core {context.core}; worker, Valkey and generator "
        f"share core {context.load_core}",
    }
