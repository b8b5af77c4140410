"""More than it can take, for a while: it waits or is refused with 503, and memory stays flat."""

from __future__ import annotations

from bench.beside import Beside
from bench.gate import expect
from bench.ingest.against_sink import Shape, make_requests
from bench.ingest.logged import expect_logged
from bench.ingest.servers import NODE, Tallyman, running_gateway, settings_of
from bench.load.events import make_events
from bench.load.generator import Generator, Load, Sent
from bench.registry import Context, Measured

OVERLOAD = 2.0
CONNECTIONS = 1_500
SAMPLE_S = 0.2
REFUSED = {"503", "429"}


class Watched(Beside):
    """Samples a process's own memory while something runs: no mapped files (runs of the index)."""

    def __init__(self, tallyman: Tallyman) -> None:
        self._process = tallyman.gateway.process
        self.samples: list[int] = []
        super().__init__()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append(self._process.own_bytes())

    def thirds(self) -> tuple[int, int]:
        """The most in the middle third and in the last: in the first its queues fill."""
        third = len(self.samples) // 3
        return max(self.samples[third : 2 * third]), max(self.samples[2 * third :])


def measure_overload(context: Context, shape: Shape) -> Measured:
    """Twice the closed-loop maximum offered: the last third's peak over the middle third's."""
    seconds = context.size(12, 8)  # all bodies are made before: 1.3 GB a second of them
    settings = settings_of(context.scratch / "d")
    generator = Generator.compiled(context.cache, core=context.load_core)
    path = context.scratch / "requests"
    with running_gateway(settings, core=context.core, other_core=context.load_core) as tallyman:
        port = tallyman.gateway.port
        before = tallyman.gateway.process.own_bytes()
        first = make_requests(path, make_events(shape.events, seed=3), shape)
        sent = generator.send(first.path, port=port, load=Load(connections=shape.connections))
        rate = sent.per_second * OVERLOAD
        events = int(rate * seconds) * shape.batch
        offered = make_requests(path, make_events(events, seed=4), shape)
        load = Load(connections=CONNECTIONS, rate=rate)
        with Watched(tallyman) as watched:
            over = generator.send(offered.path, port=port, load=load)
        resident = tallyman.gateway.process.rss_bytes()
        _check(over, batch=shape.batch)
    kept = sent.accepted + over.accepted
    expect_logged(tallyman.node_directory, NODE, events=kept)
    earlier, later = watched.thirds()
    refused = sum(over.statuses.get(status, 0) for status in REFUSED)
    limits = settings.limits
    return Measured(
        unit="× the peak of the middle third",
        value=later / earlier,
        method={
            "offered": f"{rate * shape.batch:,.0f} events/s for {seconds} s, twice its maximum; "
            f"{shape.batch:,} a request, Poisson, open loop, {CONNECTIONS:,} connections",
            "cap": f"queue of {limits.queue_events_max:,} events and "
            f"{limits.queue_bytes_max / 2**20:,.0f} MiB of bodies",
        },
        facts={
            "memory before": f"{before / 2**20:,.0f} MiB",
            "peak of the middle third": f"{earlier / 2**20:,.0f} MiB",
            "peak of the last third": f"{later / 2**20:,.0f} MiB",
            "with mapped files": f"{resident / 2**20:,.0f} MiB at the end",
            "waited": f"up to {over.waiting_max:,} requests for one of the connections",
            "refused": f"{refused:,} of {over.answered:,} requests, with 503 or 429",
            "accepted meanwhile": f"{over.accepted / over.elapsed_s:,.0f} events/s",
        },
    )


def _check(sent: Sent, *, batch: int) -> None:
    """Fail the row unless every request was accepted whole or refused.

    Raises:
        BenchFailed: it was otherwise.
    """
    expect("requests answered", seen=sent.answered, wanted=sent.requests)
    expect("other statuses", seen=set(sent.statuses) - REFUSED - {"200"}, wanted=set())
    expect("accepted", seen=sent.accepted, wanted=sent.statuses.get("200", 0) * batch)
