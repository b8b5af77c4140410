"""The life of a reader: step, sleep when there is nothing, back off when something is down.

A reader turns the log into something else and knows how far it is by asking what it wrote, so a
step that fails is simply taken again. It never skips a record: what it cannot handle stops it,
shows in ``/readyz`` and in the metrics, and is retried.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl
import structlog
from prometheus_client import Counter, Gauge
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential_jitter,
)

from api.priority import stay_behind
from catalog.clock import Micros
from catalog.ids import NodeId, Seq, SpecId
from catalog.meters import FactSpec
from storage.copies.names import is_compensations

log = structlog.get_logger(__name__)

POSITION = Gauge("tallyman_reader_position", "Last log record applied.", ["reader", "node"])
LAG = Gauge("tallyman_reader_lag_records", "Durable records not yet applied.", ["reader", "node"])
FAILURES = Counter("tallyman_reader_failures_total", "Steps that failed.", ["reader"])


class Durable(Protocol):
    """How far one node's log is on disk: read-only view of storage.log's value."""

    @property
    def seq(self) -> Seq:
        """The last record that is fsynced, 0 for none."""
        ...

    @property
    def received_at(self) -> Micros:
        """That record's ``received_at``."""
        ...


class Segment(Protocol):
    """What readers need of a sealed segment's manifest."""

    @property
    def first_seq(self) -> Seq:
        """The first record."""
        ...

    @property
    def last_seq(self) -> Seq:
        """The last record."""
        ...

    @property
    def last_received_at(self) -> Micros:
        """When the last record was received."""
        ...

    @property
    def path(self) -> Path:
        """Its Parquet file."""
        ...


class Tail(Protocol):
    """One node's log as another process may read it (storage.log.LogFollower)."""

    def durable(self) -> Durable:
        """How far the node has acknowledged."""
        ...

    def read_after(self, seq: Seq, *, rows_max: int) -> pl.DataFrame:
        """RECORDS from ``seq`` + 1 on, contiguous; empty at the end."""
        ...


class Tails(Protocol):
    """The logs of all registered, unretired nodes. Asked again at every step."""

    def __call__(self) -> Mapping[NodeId, Tail]:
        """The followers, by node. Retired nodes stay: their records still count."""
        ...


Specs = Callable[[], Mapping[SpecId, FactSpec]]
"""Every spec that facts are kept for; asked again at every step."""


def is_past(node: NodeId, received_at: int, *, as_of: Micros) -> bool:
    """Whether whoever applied a log up to ``received_at`` has all of it up to ``as_of``.

    Instants of a gateway's log differ; several compensations may hold from one instant.
    """
    return received_at > as_of if is_compensations(node) else received_at >= as_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a reader looks and how long it waits after failures, in seconds.

    ``gather_s``: a page that is not full, and that no question waits for, waits until the one
    before it is so old. A page has its own cost, whatever its length.
    """

    poll_s: float = 0.05
    gather_s: float = 0.0
    backoff_s_min: float = 0.2
    backoff_s_max: float = 15.0
    rows_max: int = 50_000


class Reader(ABC):
    """One loop, in one thread of the worker. ``step`` is called by that thread only."""

    waited_for = True
    """Whether anybody waits for its steps; else its thread stays behind the others.

    And so does what the thread starts: not for one that may begin a pool which others share.
    """

    def __init__(self, *, name: str, tails: Tails, pace: Pace | None = None) -> None:
        self.name = name
        self.tails = tails
        self.pace = pace or Pace()
        self.failure: str | None = None
        self.failed_steps = 0
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._turning = threading.Lock()

    @abstractmethod
    def step(self) -> bool:
        """Do one bounded piece of work.

        Returns:
            Whether there was any (false: sleep before the next).

        Raises:
            Exception: nothing was skipped; the same step is retried after a pause.
        """

    @abstractmethod
    def positions(self) -> dict[NodeId, Seq]:
        """The last record applied, by node. Safe from any thread."""

    def reach(self) -> dict[NodeId, Seq]:
        """The last record that can be applied now, by node."""
        return {node: tail.durable().seq for node, tail in self.tails().items()}

    @property
    def lag(self) -> dict[NodeId, int]:
        """Durable records not yet applied, by node."""
        positions = self.positions()
        return {
            node: max(0, tail.durable().seq - positions.get(node, Seq(0)))
            for node, tail in self.tails().items()
        }

    def run(self, stop: threading.Event) -> None:
        """Step until ``stop`` is set; after a failure wait exponentially longer, then retry."""
        retrying = Retrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_exponential_jitter(
                multiplier=self.pace.backoff_s_min,
                max=self.pace.backoff_s_max,
                jitter=self.pace.backoff_s_min,
            ),
            stop=stop_when_event_set(stop),
            sleep=sleep_using_event(stop),
            before_sleep=self._failed,
            retry_error_callback=lambda _: False,
        )
        while not stop.is_set():
            if not retrying(self._turn):
                self._wake.wait(self.pace.poll_s)
                self._wake.clear()

    def start(self) -> None:
        """Run in a thread of its own until :meth:`stop`."""
        self._thread = threading.Thread(
            target=self._follow_on, name=f"reader-{self.name}", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """Look now instead of at the next poll."""
        self._wake.set()

    def end(self) -> None:
        """Ask the loop to end after its current step."""
        self._stop.set()
        self._wake.set()

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Ask the loop to end after its current step and wait for it."""
        self.end()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow_on(self) -> None:
        if not self.waited_for:
            stay_behind()
        self.run(self._stop)

    def _turn(self) -> bool:
        with self._turning:
            worked = self.step()
        self._measure()
        self.failure = None
        return worked

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the loop between two steps, so that what it writes can be dropped under it."""
        with self._turning:
            yield

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.failure = f"{type(error).__name__}: {error}"
        self.failed_steps += 1
        FAILURES.labels(self.name).inc()
        log.warning("reader_failed", reader=self.name, error=self.failure)

    def _measure(self) -> None:
        for node, position in self.positions().items():
            POSITION.labels(self.name, node).set(position)
        for node, lag in self.lag.items():
            LAG.labels(self.name, node).set(lag)
