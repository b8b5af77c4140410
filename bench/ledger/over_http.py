"""Decisions over HTTP beside plain applications: the same requests to both, turn by turn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from bench.gate import expect, expect_all_answered
from bench.ingest.against_sink import Busy
from bench.ingest.servers import Served, Tallyman
from bench.ledger.requests import batch_check, checks, write_file
from bench.ledger.servers import Plain, requests_file, running_plain, running_service
from bench.load.generator import Generator, Load, Sent
from bench.pairing import Paired, interleave, middle
from bench.processes import only
from bench.profile import profiled
from bench.registry import Context, Measured

CONNECTIONS = 64
BATCH = 1_000
Requests = Callable[..., Iterable[tuple[str, bytes]]]


class PairedDecisions:
    """One row's rounds. The worker has its core between rounds only: it follows then."""

    def __init__(self, context: Context, requests: Requests, count: int) -> None:
        self.context = context
        self.count = count
        self.generator = Generator.compiled(context.cache, core=context.load_core)
        self.busy = {"gateway": Busy(), "plain": Busy()}
        self._requests = requests

    def prepare(self, number: int) -> None:
        """Write the requests of a round; the worker catches up meanwhile."""
        requests = self._requests(self.count, seed=number + 1_000)
        write_file(requests_file(self.context), requests)
        time.sleep(1.0)

    def ours(self, tallyman: Tallyman, plain: Plain) -> float:
        """Requests a second that the gateway answers."""
        with only(tallyman.gateway.process, plain.served.process), _paused(tallyman):
            sent = self.send(tallyman.gateway, "gateway")
        return sent.per_second

    def theirs(self, tallyman: Tallyman, plain: Plain) -> float:
        """Requests a second that the plain application answers."""
        with only(plain.served.process, tallyman.gateway.process), _paused(tallyman):
            sent = self.send(plain.served, "plain")
        return sent.per_second

    def send(self, server: Served, name: str, *, rate: float = 0) -> Sent:
        """Send the round's requests to one server."""
        before_s = server.process.cpu_s()
        load = Load(connections=CONNECTIONS, rate=rate)
        sent = self.generator.send(requests_file(self.context), port=server.port, load=load)
        self.busy[name].add(server, before_s, sent)
        expect_all_answered(sent, who=name)
        return sent


@contextlib.contextmanager
def _paused(tallyman: Tallyman) -> Iterator[None]:
    assert tallyman.worker is not None
    with only(tallyman.gateway.process, tallyman.worker):
        yield


def measure_against(context: Context, requests: Requests, plain_name: str) -> Measured:
    """Requests a second of the gateway and of a plain application."""
    rounds = PairedDecisions(context, requests, context.size(60_000, 20_000))
    with running_service(context) as tallyman, running_plain(context, plain_name) as plain:
        gateway = tallyman.gateway.process
        with profiled(gateway, context.profile, core=context.load_core):
            paired = interleave(
                lambda _: rounds.ours(tallyman, plain),
                lambda _: rounds.theirs(tallyman, plain),
                rounds=context.rounds,
                prepare=rounds.prepare,
            )
    return Measured(
        unit="requests/s",
        paired=paired,
        method=_method(context, f"{rounds.count:,} requests a side and round"),
        facts={"gateway busy": str(rounds.busy["gateway"]), "other": str(rounds.busy["plain"])},
    )


def measure_latency(context: Context, requests: Requests) -> Measured:
    """The 99th percentile at half of what the gateway can do, arrivals as in a Poisson process."""
    rounds = PairedDecisions(context, requests, context.size(30_000, 10_000))
    seen, rates = [], []
    with running_service(context) as tallyman:
        for number in range(-1, context.rounds):
            rounds.prepare(number * 2)
            with _paused(tallyman):
                full = rounds.send(tallyman.gateway, "gateway").per_second
            rounds.prepare(number * 2 + 1)
            with _paused(tallyman):
                sent = rounds.send(tallyman.gateway, "gateway", rate=full / 2)
            if number >= 0:
                seen.append(sent.percentile_ms(99))
                rates.append(full / 2)
    return Measured(
        unit="ms (p99)",
        value=middle(seen),
        method=_method(context, f"open loop, {middle(rates):,.0f} requests/s"),
        facts={"rounds": ", ".join(f"{value:.2f}" for value in seen)},
    )


def measure_batch(context: Context) -> Measured:
    """What a decision costs the gateway alone and among a thousand, in processor time."""
    rounds = PairedDecisions(context, checks, context.size(30_000, 10_000))
    alone, among = [], []
    with running_service(context) as tallyman, tallyman.client() as client:
        gateway = tallyman.gateway.process
        for number in range(-1, context.rounds):
            rounds.prepare(number)
            with _paused(tallyman):
                before_s = gateway.cpu_s()
                rounds.send(tallyman.gateway, "gateway")
                single_s = (gateway.cpu_s() - before_s) / rounds.count
                bodies = [batch_check(BATCH, seed=(number + 1) * 100 + n) for n in range(50)]
                before_s = gateway.cpu_s()
                for body in bodies:
                    answer = client.post("/v1/entitlements/check", content=body).json()
                    allowed = sum(one["allowed"] for one in answer["results"])
                    expect("allowed", seen=allowed, wanted=BATCH)
                batched_s = (gateway.cpu_s() - before_s) / (BATCH * len(bodies))
            if number >= 0:
                alone.append(single_s * 1e6)
                among.append(batched_s * 1e6)
    return Measured(
        unit="µs of processor time a decision",
        paired=Paired(ours=tuple(alone), theirs=tuple(among)),
        method=_method(context, f"one check a request, and {BATCH:,}"),
    )


def _method(context: Context, sent: str) -> dict[str, str | int | float]:
    return {
        "customers": "10,000 under contract, Zipf 1.1, one feature with a hard monthly limit",
        "concurrency": f"{CONNECTIONS} connections, one request in flight each",
        "sent": sent,
        "pinning": f"server on core {context.core}; generator and Valkey on {context.load_core}, "
        "the worker stopped while it is timed",
    }
