"""The whole service as processes of our own, so that what is killed is started again at once.

A supervisor waits longer after each death, as it should; a campaign of kills cannot. The commands
are those the supervisor would run, but for the gateway, which is forked (see ``zygote``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from api.datadir import ServiceLock
from api.service import child_specs
from api.settings import Settings, child_environment
from tests.e2e.harness import wait_for
from tests.e2e.test_kills import ALLOWANCE, CATALOG, Books, Load, check_books
from tests.faults.alone import KEY, Alone, Place

ROUND_KILLS = 25
VICTIMS = ("gateway",) * 9 + ("valkey",) * 6 + ("worker",) * 3 + ("everything",) * 2
NOW = datetime(2026, 1, 20, tzinfo=UTC)
READY_S_MIN = 120.0
READY_STARTS = 10
"""A service that was killed may take so many times as long as its first start took, and no less
than the seconds above: on a machine that does ten other things a worker alone may take a minute,
and several may have been killed in a row."""


@dataclass
class BandKills:
    """What a campaign saw."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    events: int = 0
    allowed: int = 0
    exhausted: int = 0
    """Allowances of a hard limit that were used to the last unit."""
    retries: int = 0

    def add(self, books: Books) -> None:
        """Count what a round's books say."""
        self.rounds += 1
        self.events += books.events
        self.allowed += sum(books.calls.values())
        self.exhausted += sum(calls == ALLOWANCE for calls in books.calls.values())
        self.retries += books.retries


class Band:
    """Valkey, worker and gateway of one data directory. Stands in for a harness ``Service``."""

    key = KEY

    def __init__(self, alone: Alone, settings: Settings, lock: ServiceLock) -> None:
        self._alone = alone
        self._environment = child_environment(settings)
        specs = child_specs(settings, lock=lock.descriptor, listener=0)
        self._argv = {spec.name: spec.argv for spec in specs if spec.name in {"valkey", "worker"}}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.patience_s = 4 * READY_S_MIN  # until it is known how long a start takes here
        host, port = alone.address
        self.url = f"http://{host}:{port}"
        self.client = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=300
        )

    def start(self, name: str) -> None:
        """Start one of them, or ``everything``."""
        if name in {"gateway", "everything"}:
            self._alone.start()
        for other, argv in self._argv.items():
            if name in {other, "everything"}:
                with self._alone.log.open("ab") as log:
                    self._processes[other] = subprocess.Popen(
                        argv,
                        env=self._environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )

    def kill(self, name: str) -> None:
        """SIGKILL one of them, or everything at once; answers when it is gone."""
        victims = [
            process for other, process in self._processes.items() if name in {other, "everything"}
        ]
        for process in victims:
            process.kill()
        if name in {"gateway", "everything"}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._alone.pid, signal.SIGKILL)
            self._alone.await_end()
        for process in victims:
            process.wait(20)

    def get(self, path: str, **params: str | int | bool) -> Any:
        """What GET ``path`` answers, asked again while readers catch up; else all but 200 fails."""
        deadline_s = time.monotonic() + self.patience_s
        while (answer := self.client.get(path, params=params)).status_code == 503:
            assert time.monotonic() < deadline_s, answer.text
            time.sleep(0.1)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, content: object) -> Any:
        """What POST ``path`` answers; anything but 2xx fails."""
        answer = self.client.post(path, json=content)
        assert answer.is_success, answer.text
        return answer.json()

    def wait_ready(self) -> None:
        """Wait until /readyz is 200; what is not ready is named when it takes too long."""
        told = "no answer"

        def ready() -> bool:
            nonlocal told
            try:
                answer = self.client.get("/readyz", timeout=10)
            except httpx.HTTPError as error:
                told = repr(error)
                return False
            told = answer.text
            return answer.status_code == 200

        def explain() -> str:
            return f"{told}\n{self._alone.said()}"

        wait_for(ready, what="ready", within_s=self.patience_s, explain=explain)

    def wait_first_ready(self) -> None:
        """The same for the first start, by which all later ones are judged."""
        began_s = time.monotonic()
        self.wait_ready()
        self.patience_s = max(READY_S_MIN, READY_STARTS * (time.monotonic() - began_s))


@contextlib.contextmanager
def band(where: Place) -> Iterator[Band]:
    """A ready service in a fresh directory, with the catalog of the kills; ended with the block."""
    alone = where.fresh(sandbox_now=NOW)
    settings = Settings(data=alone.data, admin_key=KEY, sandbox=True, log_level="warning")
    with ServiceLock(alone.data) as lock:
        made = Band(alone, settings, lock)
        try:
            made.start("everything")
            made.wait_first_ready()
            made.post("/v1/catalog", {"document": CATALOG})
            yield made
        finally:
            made.kill("everything")
            made.client.close()


async def kill_anything(where: Place, seed: int, *, more: Callable[[BandKills], bool]) -> BandKills:
    """Rounds of kills of any process of a service, while ``more``; the books after each."""
    rng, seen = random.Random(seed), BandKills()
    while more(seen):
        with band(where) as service:
            await asyncio.to_thread(_round, service, rng, seen, more)
    return seen


def _round(
    service: Band, rng: random.Random, seen: BandKills, more: Callable[[BandKills], bool]
) -> None:
    load = Load(random.Random(rng.random()))
    load.aim(service)  # type: ignore[arg-type]  (it has what the load asks for)
    load.start()
    try:
        for _ in range(ROUND_KILLS):
            time.sleep(rng.uniform(0.02, 0.5))
            victim = rng.choice(VICTIMS)
            service.kill(victim)
            seen.kills[victim] += 1
            service.start(victim)
            if rng.random() < 0.4:
                service.wait_ready()
            if not more(seen):
                break
        service.wait_ready()  # before the end: decisions that are under way need all of it
    finally:
        load.stop(within_s=service.patience_s)
    check_books(service, load.books)  # type: ignore[arg-type]
    seen.add(load.books)
