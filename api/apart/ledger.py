"""The worker's end of the ledger's reader: starts its process, watches it, asks it.

A process that dies is started again; it finds in the ledger how far it is, so nothing is told to it
but what only the worker knows.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import cast

import structlog
from prometheus_client import REGISTRY, ProcessCollector

from api.apart.messages import Answer, Asked, Copies, FromWorker, Question, State, ToWorker
from api.readers.base import FAILURES, LAG, POSITION, Tails
from api.readers.ledger import Difference
from catalog.errors import Unavailable
from catalog.ids import NodeId, Seq

log = structlog.get_logger()

NAME = "ledger"
METRICS = "tallyman_ledger_reader"
COPIES_S = 0.05
QUIET_S = 3.0
"""Whoever is silent so long may not be reading either: nothing is sent that could fill the pipe."""
SILENT_S_MAX = 10.0
HUNG_S = 60.0
"""A process that was heard, and is silent so long, is killed: another one goes on."""
ENDING_S_MAX = 30.0
STOP_S_MAX = 2.0
"""A rebuild is one step and may take minutes; the worker has six seconds to stop."""
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 10.0
STEADY_S = 30.0
"""A process that ran this long is started again at once."""


class LedgerApart:
    """The ledger's reader, in a process of its own. Thread-safe.

    It is a :class:`api.parts.Service`, and whoever asks may ask it as if it were the
    :class:`api.readers.ledger.LedgerReader` itself.
    """

    def __init__(
        self,
        *,
        tails: Tails,
        copies: Callable[[], Copies],
        environment: Mapping[str, str],
        first: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            tails: the logs that it follows.
            copies: what the process has to know of the worker's compensations; cheap to ask.
            environment: the settings, as a child is handed them.
            first: called before anything in the thread that starts the processes.
        """
        self._tails = tails
        self._copies = copies
        self._environment = dict(environment)
        self._first = first
        self._state = State()
        self._failures = 0
        self._rebuild_due = self._rebuild_taken = False
        self._heard_at_s = 0.0
        self._broken: str | None = "its process has not started yet"
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._numbers = itertools.count()
        self._open: dict[int, tuple[Asked, Future[object]]] = {}
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._begun = threading.Event()
        # The kernel ends a child with the thread that has started it: this one.
        self._thread = threading.Thread(target=self._run, name="ledger-apart", daemon=True)

    @property
    def failure(self) -> str | None:
        """Why balances may not follow, or null."""
        silent_s = self._silent_s()
        if silent_s > SILENT_S_MAX:
            return f"its process has said nothing for {silent_s:.0f} s"
        return self._broken or self._state.failure

    def _silent_s(self) -> float:
        """How long a process that was heard has been silent; 0 where none was."""
        return 0.0 if self._broken is not None else time.monotonic() - self._heard_at_s

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        child = self._child
        return None if child is None else child.pid

    def positions(self) -> dict[NodeId, Seq]:
        """The last record applied, by node, as last heard; none while a rebuild is due."""
        return {} if self._rebuild_due else dict(self._state.positions)

    def reach(self) -> dict[NodeId, Seq]:
        """The last record that can be applied now, by node."""
        return {node: tail.durable().seq for node, tail in self._tails().items()}

    def request_rebuild(self) -> None:
        """Drop the ledger and fill it anew; a process that is not there yet is told first."""
        self._rebuild_due, self._rebuild_taken = True, False
        with contextlib.suppress(Unavailable, TimeoutError):
            self._ask(Asked.REBUILD).result(timeout=SILENT_S_MAX)

    def recount(self) -> list[Difference]:
        """Compare every total with the log, both up to where the reader stands.

        Raises:
            Unavailable: it is not filled yet, or the process ended meanwhile.
        """
        return cast("list[Difference]", self._ask(Asked.RECOUNT).result())

    def wake(self) -> None:
        """Nothing: it looks every few milliseconds."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Go on: the process begins a rebuild by itself, between two of its steps."""
        yield

    def start(self) -> None:
        """Start the process, and again whenever it ends, until :meth:`stop`.

        What is to be done first is done on return: who is started later finds it so.
        """
        self._thread.start()
        self._begun.wait()

    def end(self) -> None:
        """Ask the process to end after its current step."""
        self._ending.set()

    def stop(self, *, timeout_s: float = STOP_S_MAX) -> None:
        """End the process; what has not ended in time is killed: it loses nothing by that."""
        self.end()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._kill()
            self._thread.join()

    def _run(self) -> None:
        """Keep a process running; the pauses between two that die soon grow."""
        try:
            self._first()
        finally:
            self._begun.set()
        measured = ProcessCollector(namespace=METRICS, pid=lambda: self.pid or "none")
        pause_s = BACKOFF_S_MIN
        while not self._ending.is_set():
            began_s = time.monotonic()
            self._broken = self._lived()
            if self._ending.is_set():
                break
            if time.monotonic() - began_s > STEADY_S:
                pause_s = BACKOFF_S_MIN
            FAILURES.labels(NAME).inc()
            self._ending.wait(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_S_MAX)
        REGISTRY.unregister(measured)

    def _lived(self) -> str:
        """One process from its start to its end, whatever happens; why there is none now."""
        try:
            code = self._live()
        except Exception as error:
            log.exception("child_lost", child=NAME)
            return f"its process could not be kept and is started again: {error}"
        if not self._ending.is_set():
            log.warning("child_died", child=NAME, code=code)
        return f"its process ended with {code} and is started again"

    def _live(self) -> int:
        """One process from its start to its end; its exit code."""
        ours, theirs = Pipe()
        with ours:
            with theirs:
                child = self._child = self._started(theirs.fileno())
            log.info("child_started", child=NAME, pid=child.pid)
            try:
                self._converse(ours)
            except (EOFError, OSError) as error:  # OSError: it was killed in the middle of a word
                log.debug("child_hung_up", child=NAME, error=str(error))
            finally:
                self._hung_up()
                ours.close()
                code = _ended(child)
        return code

    def _started(self, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  (our own command)
            [sys.executable, "-m", "api.apart.child", str(descriptor), str(os.getpid())],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )

    def _converse(self, connection: Connection) -> None:
        """Tell what the worker knows and take what is told, until either has had enough."""
        told = self._copies()
        connection.send(told)
        with self._lock:
            self._connection, self._failures = connection, 0
            self._rebuild_taken = False  # the one before this process may have died of it
        if self._rebuild_due:
            self._ask(Asked.REBUILD)
        while not self._ending.is_set():
            if connection.poll(COPIES_S):
                self._take(connection.recv())
            if self._silent_s() > HUNG_S:
                self._kill()
            copies = self._copies()
            if copies != told and self._silent_s() < QUIET_S:
                self._send(copies)
                told = copies

    def _kill(self) -> None:
        """Kill the process; whoever waits for it goes on."""
        child = self._child
        if child is not None:
            log.warning("child_killed", child=NAME)
            child.kill()

    def _hung_up(self) -> None:
        """Nobody answers what is still open."""
        with self._lock:
            self._connection = None
            waiting, self._open = self._open, {}
        for _, future in waiting.values():
            future.set_exception(Unavailable("the process of the ledger's reader has ended"))

    def _take(self, message: ToWorker) -> None:
        match message:
            case State():
                self._heard(message)
            case Answer():
                with self._lock:
                    asked, future = self._open.pop(message.number)
                if asked is Asked.REBUILD:
                    self._rebuild_taken = True
                if message.error is None:
                    future.set_result(message.value)
                else:
                    future.set_exception(message.error)

    def _heard(self, state: State) -> None:
        self._state, self._broken, self._heard_at_s = state, None, time.monotonic()
        if self._rebuild_taken and not state.rebuilding:
            self._rebuild_due = self._rebuild_taken = False
        FAILURES.labels(NAME).inc(state.failures - self._failures)
        self._failures = state.failures
        try:
            durable = self.reach()
        except Exception:  # only a measure is missing, and the next state brings it
            log.exception("lag_not_measured", reader=NAME)
            return
        for node, position in state.positions.items():
            POSITION.labels(NAME, node).set(position)
            LAG.labels(NAME, node).set(max(0, durable.get(node, position) - position))

    def _ask(self, asked: Asked) -> Future[object]:
        """Ask the process.

        Raises:
            Unavailable: there is none.
        """
        future: Future[object] = Future()
        with self._lock:
            if self._connection is None:
                raise Unavailable("the process of the ledger's reader is being started")
            number = next(self._numbers)
            self._open[number] = asked, future
            self._send(Question(number=number, asked=asked))
        return future

    def _send(self, message: FromWorker) -> None:
        """Send, where there is somebody; who is gone is noticed by the thread that listens."""
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.send(message)


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Its exit code. It ends as it hears that nobody listens, or is killed where it does not."""
    try:
        return child.wait(ENDING_S_MAX)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
