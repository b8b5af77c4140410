"""From the ack to what a caller sees: in a look-up, in a meter's usage, in a balance."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx
import numpy as np

from bench.gate import BenchFailed, expect_accepted
from bench.ingest.against_sink import FSYNC, Shape, make_requests
from bench.ingest.backlog import watched_backlog
from bench.ingest.logged import expect_logged
from bench.ingest.servers import NODE, Tallyman, running_gateway, settings_of
from bench.ingest.sustained import OPEN_CONNECTIONS, Sustained
from bench.load.business import CUSTOMERS_SERVED, business
from bench.load.events import make_events
from bench.load.generator import Generator, Load, Sent
from bench.registry import Context, Measured

PROBE = "probe"
LOAD = 0.5
PERCENT = 99
VISIBLE_S_MAX = 30.0
PAUSE_S = 0.02
LOOK_S = 0.005
"""Between two looks: asking without pause took a quarter of the core that readers work on."""
Seen = Callable[[httpx.Client, int], bool]
"""Whether the probe with this number, and all before it, can be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Sends one event at a time and looks until it is seen."""

    tallyman: Tallyman

    def run(self, seen: Seen, *, until: threading.Event) -> list[float]:
        """Seconds from ack to sight, one a probe, until the load ends.

        Raises:
            BenchFailed: one was not seen at all.
        """
        taken: list[float] = []
        with self.tallyman.client() as client:
            while not until.is_set():
                number = len(taken) + 1
                self._post(client, number)
                acked_s = time.perf_counter()
                while not seen(client, number):
                    if time.perf_counter() - acked_s > VISIBLE_S_MAX:
                        raise BenchFailed(f"probe {number} was not seen in {VISIBLE_S_MAX} s")
                    time.sleep(LOOK_S)
                taken.append(time.perf_counter() - acked_s)
                time.sleep(PAUSE_S)
        return taken

    def _post(self, client: httpx.Client, number: int) -> None:
        event = {
            "specversion": "1.0",
            "id": f"probe-{number}",
            "source": PROBE,
            "type": "llm.completion",
            "subject": PROBE,
            "data": {"model": "gpt-4", "region": "eu", "tokens": 1},
        }
        answer = client.post("/v1/events", json=event)
        if answer.status_code != 200 or answer.json()["accepted"] != 1:
            raise BenchFailed(f"a probe was refused: {answer.text}")


def seen_in_events(client: httpx.Client, number: int) -> bool:
    """Whether the look-up finds it."""
    return client.get(f"/v1/events/{PROBE}/probe-{number}").status_code == 200


def seen_in_usage(client: httpx.Client, number: int) -> bool:
    """Whether the meter's usage counts it."""
    day_s = 86_400
    today = time.gmtime(time.time() // day_s * day_s)
    tomorrow = time.gmtime(time.time() // day_s * day_s + day_s)
    bounds = {
        name: time.strftime("%Y-%m-%dT00:00:00Z", day)
        for name, day in (("from", today), ("to", tomorrow))
    }
    answer = client.get("/v1/meters/tokens/usage", params={"customer": PROBE, **bounds})
    return sum(Decimal(row["value"]) for row in answer.json()["items"]) == number


def seen_in_balance(client: httpx.Client, number: int) -> bool:
    """Whether the entitlement's balance counts it."""
    answer = client.get(f"/v1/customers/{PROBE}/entitlements/tokens")
    return answer.status_code == 200 and Decimal(answer.json()["used"]) == number


def measure_freshness(context: Context, shape: Shape, seen: Seen, *, unit: str) -> Measured:
    """The 99th percentile of the time from ack to sight, at half of what is kept up with."""
    shape = replace(shape, events=context.size(shape.events, shape.events // 3))
    seconds = context.size(40, 15)
    settings = settings_of(context.scratch / "d")
    with contextlib.ExitStack() as stack:
        tallyman = stack.enter_context(
            running_gateway(
                settings,
                core=context.core,
                other_core=context.load_core,
                worker=True,
                catalog=business(PROBE),
            )
        )
        backlog = stack.enter_context(watched_backlog(tallyman))
        backlog.wait_until_drained()
        sustained = Sustained(context, shape, tallyman, backlog)
        rate = sustained.estimate() * LOAD
        taken: list[float] = []
        with _loaded(context, shape, tallyman, rate=rate, seconds=seconds) as (events, ended):
            taken = Probes(tallyman=tallyman).run(seen, until=ended)
        backlog.wait_until_drained()
    wanted = sustained.kept + events + len(taken)
    expect_logged(tallyman.node_directory, NODE, events=wanted)
    scale = 1_000 if unit.startswith("ms") else 1
    p50, p99 = (float(np.percentile(taken, percent)) * scale for percent in (50, PERCENT))
    return Measured(
        unit=unit,
        value=p99,
        method={
            "load": f"{rate:,.0f} events/s, half of what all readers keep up with, "
            f"{shape.batch} a request, Poisson, open loop",
            "probes": f"{len(taken)}, one after another, timed from the ack to the first answer "
            f"that counts it, asked every {LOOK_S * 1e3:.0f} ms",
            "catalog": f"two meters; {CUSTOMERS_SERVED:,} customers with contract and entitlement",
            "fsync": FSYNC,
            "pinning": f"gateway on core {context.core}; worker, Valkey, generator and the one who "
            f"asks share core {context.load_core}",
        },
        facts={"p50": f"{p50:.3g} {unit.partition(',')[0]}", "max": max(taken) * scale},
    )


@contextlib.contextmanager
def _loaded(
    context: Context, shape: Shape, tallyman: Tallyman, *, rate: float, seconds: float
) -> Iterator[tuple[int, threading.Event]]:
    """Events at a steady rate from a thread; how many, and an event that is set at their end.

    Raises:
        BenchFailed: at the end, when one of them was not accepted.
    """
    count = int(rate * seconds) // shape.batch * shape.batch
    requests = make_requests(context.scratch / "load", make_events(count, seed=9_000), shape)
    generator = Generator.compiled(context.cache, core=context.load_core)
    ended, results = threading.Event(), list[Any]()

    def send() -> None:
        try:
            load = Load(connections=OPEN_CONNECTIONS, rate=rate / shape.batch, seed=9)
            results.append(generator.send(requests.path, port=tallyman.gateway.port, load=load))
        except BenchFailed as error:
            results.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield requests.events, ended
    finally:
        thread.join()
    (sent,) = results
    if not isinstance(sent, Sent):
        raise sent
    expect_accepted(sent, events=requests.events, who="gateway")
