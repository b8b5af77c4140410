"""``tallyman serve``: one process that starts the others, restarts them, and ends them.

No child outlives it: each asks the kernel for SIGKILL at its parent's death, and checks that the
parent had not died before it asked. Everything here is one thread that waits for signals.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 10.0
STEADY_S = 30.0  # a child that ran this long starts its backoff afresh
EXIT_CONFIG = 78  # a child's way to say that no restart will help (sysexits.h: EX_CONFIG)
_WAKING = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process to keep running. Stages stop in ascending order, each before the next."""

    name: str
    argv: tuple[str, ...]
    stage: int
    stop_share: float
    descriptors: tuple[int, ...] = ()


class _Child:
    """A running, or waiting to be restarted, process."""

    def __init__(self, spec: ChildSpec, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.restart_at_s = 0.0
        self._environment = dict(environment)
        self._started_at_s = 0.0
        self._backoff_s = BACKOFF_S_MIN

    def start(self) -> None:
        """Start it now."""
        self.process = subprocess.Popen(  # noqa: S603  (our own commands)
            self.spec.argv,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=self.spec.descriptors,
            process_group=0,  # Ctrl-C reaches the supervisor only, which stops in order
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  (one thread, no Python locks)
        )
        self._started_at_s = time.monotonic()
        log.info("child_started", child=self.spec.name, pid=self.process.pid)

    def reap(self) -> int | None:
        """Its exit code, once, if it has ended; schedules the restart."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        now_s = time.monotonic()
        if now_s - self._started_at_s > STEADY_S:
            self._backoff_s = BACKOFF_S_MIN
        self.process = None
        self.restart_at_s = now_s + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """Keeps children running until told to stop."""

    def __init__(
        self, specs: Sequence[ChildSpec], *, environment: Mapping[str, str], stop_s_max: float
    ) -> None:
        self._children = [_Child(spec, environment) for spec in specs]
        self._stop_s_max = stop_s_max

    def run(self, *, on_stop: Callable[[], None]) -> int:
        """Start all, restart what dies, and on SIGTERM or SIGINT stop all in order.

        ``on_stop`` is called before the first child is told to stop. Answers the exit code: 0
        after an orderly stop, 1 where a child had to be killed, or 78 as said by a child.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
        try:
            for child in self._children:
                child.start()
            code = self._watch()
            on_stop()
            return self._stop() or code
        finally:
            for child in self._children:
                child.signal(signal.SIGKILL)

    def _watch(self) -> int:
        while True:
            received = signal.sigtimedwait(_WAKING, self._pause_s())
            if received is not None and received.si_signo != signal.SIGCHLD:
                return 0
            for child in self._children:
                code = child.reap()
                if code == EXIT_CONFIG:
                    log.error("child_gave_up", child=child.spec.name)
                    return EXIT_CONFIG
                if code is not None:
                    log.warning("child_died", child=child.spec.name, code=code)
                if child.process is None and child.restart_at_s <= time.monotonic():
                    child.start()

    def _pause_s(self) -> float:
        """How long nothing has to be done, unless a signal comes."""
        waiting = [child.restart_at_s for child in self._children if child.process is None]
        pause_s = min(waiting, default=float("inf")) - time.monotonic()
        return min(max(pause_s, 0.0), 1.0)

    def _stop(self) -> int:
        log.info("stopping")
        killed = False
        for stage in sorted({child.spec.stage for child in self._children}):
            children = [child for child in self._children if child.spec.stage == stage]
            for child in children:
                child.signal(signal.SIGTERM)
            share = max(child.spec.stop_share for child in children)
            killed |= not self._wait(children, time.monotonic() + share * self._stop_s_max)
        return int(killed)

    def _wait(self, children: Sequence[_Child], deadline_s: float) -> bool:
        """Wait for ``children`` to end; kill what is left at the deadline or at a second signal."""
        while any(child.process for child in children):
            left_s = deadline_s - time.monotonic()
            received = signal.sigtimedwait(_WAKING, min(max(left_s, 0.0), 0.2))
            impatient = received is not None and received.si_signo != signal.SIGCHLD
            for child in children:
                child.reap()
            if left_s <= 0 or impatient:
                running = [child for child in children if child.process]
                for child in running:
                    log.warning("child_killed", child=child.spec.name)
                    child.signal(signal.SIGKILL)
                    if child.process:
                        child.process.wait()
                return not running
        return True


def _die_with(parent: int) -> Callable[[], None]:
    def between_fork_and_exec() -> None:
        # The supervisor waits for these by sigtimedwait, so they are blocked in it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKING)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return between_fork_and_exec
