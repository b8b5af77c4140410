"""kill -9 at random moments, under load: nothing lost, nothing doubled, nothing oversold.

A client that knows nothing of the service's inside keeps its own books: what it sent, what was
acknowledged, and blindly repeats whatever got no answer. At the end the books must agree.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Service, end_service, start_service, wait_for

SEED = int(os.environ.get("TALLYMAN_TEST_SEED", "20260131"))
KILLS = 24
CUSTOMERS = 5
ALLOWANCE = 3_000
VICTIMS = ("api.gateway", "api.worker", "valkey", "everything")

CATALOG = {
    "meters": {
        "units": {"event_type": "used", "aggregation": "sum", "value": "data.units"},
        "calls": {"event_type": "call", "aggregation": "sum", "value": "data.calls"},
    },
    "features": {
        "units": {"kind": "metered", "meter": "units"},
        "calls": {"kind": "metered", "meter": "calls"},
    },
    "products": {
        "units": {"name": "Units", "meter": "units"},
        "calls": {"name": "Calls", "meter": "calls"},
    },
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1, "anchor": "calendar"},
            "prices": [
                {"product": name, "charge": {"model": "per_unit", "unit_price": "0.01"}}
                for name in ("units", "calls")
            ],
            "entitlements": [
                {"feature": "units", "amount": "1000000", "every": "month", "limit": "soft"},
                {"feature": "calls", "amount": str(ALLOWANCE), "every": "month", "limit": "hard"},
            ],
        }
    },
    "customers": {f"c{i}": {"name": f"C{i}", "subjects": [f"c{i}"]} for i in range(CUSTOMERS)},
    "contracts": {
        f"c{i}": {"customer": f"c{i}", "pricebook": "b", "start": "2026-01-01"}
        for i in range(CUSTOMERS)
    },
}


@dataclass
class Books:
    """What the client knows: acknowledged units by customer, calls that were allowed."""

    units: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    events: int = 0
    retries: int = 0
    surprises: list[str] = field(default_factory=list)


class NeverAnswered(Exception):
    """Nobody waits for an answer any more."""


class Load:
    """Threads that post events and consume, each request repeated until it is answered."""

    def __init__(self, rng: random.Random) -> None:
        self.books = Books()
        self._rng = rng
        self._stop = threading.Event()
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self._target: Service | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(work, random.Random(rng.random())))
            for work in (self._post, self._post, self._consume, self._consume)
        ]

    def aim(self, service: Service) -> None:
        """Send to this service from now on (it may have another port after a restart)."""
        self._target = service

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, within_s: float = 60) -> None:
        """Finish the requests under way, however often they must be repeated."""
        self._stop.set()
        deadline_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        never = sum(thread.is_alive() for thread in self._threads)
        self._given_up.set()  # else they would try for ever, and keep the process from its end
        assert not never, f"{never} requests never got an answer within {within_s:.0f} s"

    def _run(
        self, work: Callable[[httpx.Client, int, random.Random], None], rng: random.Random
    ) -> None:
        worker = rng.getrandbits(48)
        with contextlib.suppress(NeverAnswered), httpx.Client(timeout=10) as http:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                work(http, worker + number * 2**50, rng)

    def _answered(self, http: httpx.Client, path: str, body: object) -> dict[str, object]:
        """The first 200, however long it takes; anything but 200 and 503 is a surprise."""
        while not self._given_up.is_set():
            service = self._target
            assert service is not None
            try:
                answer = http.post(
                    service.url + path,
                    json=body,
                    headers={"authorization": f"Bearer {service.key}"},
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return dict(answer.json())
            with self._lock:
                self.books.retries += 1
                if answer is not None and answer.status_code != 503:
                    self.books.surprises.append(f"{path}: {answer.status_code} {answer.text}")
            time.sleep(0.02)
        raise NeverAnswered

    def _post(self, http: httpx.Client, number: int, rng: random.Random) -> None:
        batch = [
            {
                "id": f"{number}-{i}",
                "source": "load",
                "type": "used",
                "subject": f"c{rng.randrange(CUSTOMERS)}",
                "time": "2026-01-15T12:00:00Z",
                "data": {"units": rng.randrange(1, 100)},
            }
            for i in range(rng.choice((1, 7, 60)))
        ]
        reply = self._answered(http, "/v1/events", batch)
        with self._lock:
            kept = int(str(reply["accepted"])) + int(str(reply["duplicates"]))
            if kept != len(batch) or reply["rejected"]:
                self.books.surprises.append(f"not all kept: {reply}")
            self.books.events += len(batch)
            for event in batch:
                subject = str(event["subject"])
                units = event["data"]["units"]  # type: ignore[index]
                self.books.units[subject] = self.books.units.get(subject, 0) + units

    def _decided(self, http: httpx.Client, path: str, body: object) -> dict[str, Any]:
        """A decision that stands.

        While the ledger is away or rebuilt, an earlier try of this key may have been kept in the
        log: such a denial is no answer, and is asked again.
        """
        while True:
            reply: dict[str, Any] = self._answered(http, path, body)
            if reply["items"][0]["reason"] not in {"recovering", "ledger_unavailable"}:
                return reply
            time.sleep(0.02)

    def _consume(self, http: httpx.Client, number: int, rng: random.Random) -> None:
        customer, amount = f"c{rng.randrange(CUSTOMERS)}", rng.randrange(1, 4)
        path = f"/v1/customers/{customer}/entitlements/consume"
        items = [{"feature": "calls", "amount": str(amount)}]
        reply = self._decided(http, path, {"items": items, "key": f"k{number}"})
        if reply["allowed"]:
            with self._lock:
                self.books.calls[customer] = self.books.calls.get(customer, 0) + amount
        else:
            time.sleep(0.01)


def kill(service: Service, victim: str) -> None:
    """End with SIGKILL one process, or of all of them at once."""
    names = ("",) if victim == "everything" else (victim,)
    pids = [pid for name in names for pid in service.pids(name)]
    if victim == "everything":
        pids.append(service.process.pid)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name (unix sockets) for one data directory."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


SANDBOX = ("--sandbox", "--now", "2026-01-20T00:00:00Z")


BALANCE_S = 30.0
"""How far balances may be behind events on a machine that has much else to do."""


def check_books(service: Service, books: Books) -> None:
    """Totals, balances and every store agree with what the client was told."""
    assert books.surprises == []
    lines = service.get("/v1/totals", period="2026-01", limit=1000)["items"]
    found = {(row["customer"], row["product"]): int(row["quantity"]) for row in lines}
    for customer, units in books.units.items():
        assert found[customer, "units"] == units
    for customer, calls in books.calls.items():
        assert found[customer, "calls"] == calls
    for customer, units in books.units.items():
        caught_up = partial(_caught_up, service, customer, units)
        wait_for(caught_up, what=f"the balance of {customer}", within_s=BALANCE_S)
        balances = _balances(service, customer)
        assert Decimal(balances["calls"]["used"]) == books.calls.get(customer, 0) <= ALLOWANCE
        assert Decimal(balances["calls"]["held"]) == 0
    report = service.post("/v1/admin/verify", {})
    assert report["ok"], report


def _balances(service: Service, customer: str) -> dict[str, Any]:
    answer = service.get(f"/v1/customers/{customer}/entitlements")
    return {each["feature"]: each for each in answer["items"]}


def _caught_up(service: Service, customer: str, units: int) -> bool:
    """Whether all events are in a balance, which follows them; more than there were never are."""
    used = Decimal(_balances(service, customer)["units"]["used"])
    assert used <= units, f"{customer}: {used} of {units} units"
    return used == units


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kills_at_random_moments(home: Path) -> None:
    """24 kills of gateway, worker, Valkey and all of them: the books agree in the end."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    service = start_service(home, *SANDBOX)
    load = Load(rng)
    try:
        service.wait_ready()
        service.post("/v1/catalog", {"document": CATALOG})
        load.aim(service)
        load.start()
        for round_ in range(KILLS):
            time.sleep(rng.uniform(0.1, 0.9))
            victim = VICTIMS[round_ % 3] if round_ % 6 else "everything"
            kill(service, victim)
            if victim == "everything":
                end_service(service)
                service = start_service(home, *SANDBOX, key=service.key)
                load.aim(service)
            if rng.random() < 0.7:
                service.wait_ready()
        load.stop()
        service.wait_ready()
        check_books(service, load.books)
        print(f"{load.books.events} events, {load.books.retries} retries")
        assert load.books.events > 1_000
        assert load.books.retries > 0, "no request was ever hit by a kill"
    finally:
        load._stop.set()
        end_service(service)
