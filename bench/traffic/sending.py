"""How users call the service: every answer is looked at; what must arrive is sent until it has."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from locust.contrib.fasthttp import FastHttpUser

from bench.traffic.run import Run, run_of

PAUSE_S = 0.2
PAUSE_S_MAX = 5.0
LAST_TRIES = 40
"""At the end of a run what is under way is sent so often; then it counts as unanswered."""

Answer = dict[str, Any]
Judge = Callable[[Answer], str | None]
"""What is wrong with a 200, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One request, and what its answer means."""

    kind: str
    path: str
    body: bytes
    content_type: str = "application/json"
    encoding: str | None = None
    judge: Judge = lambda _: None
    settled: Callable[[Answer], None] = lambda _: None
    lost: Callable[[], None] = lambda: None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the body."""
        packed = {"content-encoding": self.encoding} if self.encoding else {}
        return {"content-type": self.content_type, **packed}


class Caller(FastHttpUser):
    """A user of the service. ``period_s`` is from one task to the next, at pace 1."""

    abstract = True
    period_s = 1.0
    insecure = False
    network_timeout = 30.0
    connection_timeout = 10.0
    _due_s = 0.0

    @property
    def run_(self) -> Run:
        """The run this user is part of."""
        return run_of(self.environment)

    def wait_time(self) -> float:
        """Until the next task. A user who is late makes up for one task, not for all it missed."""
        run = self.run_
        if not run.pace:
            return 0.0
        period_s, now_s = self.period_s / run.pace, time.monotonic()
        due_s = self._due_s + period_s if self._due_s else now_s + random.random() * period_s
        self._due_s = max(due_s, now_s - period_s)
        return max(0.0, self._due_s - now_s)

    def ask(self, kind: str, path: str, judge: Judge = lambda _: None) -> Answer | None:
        """GET ``path``; None when it failed."""
        return self._call("GET", path, kind, judge, headers={}, body=None)

    def once(self, sending: Sending, *, method: str = "POST") -> Answer | None:
        """Send it; None when it failed, after the pause the service asked for."""
        return self._call(
            method,
            sending.path,
            sending.kind,
            sending.judge,
            headers=sending.headers,
            body=sending.body,
        )

    def _call(
        self,
        method: str,
        path: str,
        kind: str,
        judge: Judge,
        *,
        headers: dict[str, str],
        body: bytes | None,
    ) -> Answer | None:
        answer: Answer | None = None
        pause_s = 0.0
        with self.client.request(
            method,
            path,
            name=kind,
            data=body,
            headers={**self.run_.headers, **headers},
            catch_response=True,
        ) as response:
            wrong = _wrong(response.status_code, response.content)
            if wrong is None:
                answer = json.loads(response.content)
                wrong = judge(answer)
            if wrong is not None:
                answer = None
                response.failure(wrong)
                pause_s = _pause_s(response.headers)
        gevent.sleep(pause_s)
        return answer


class Insistent(Caller):
    """Sends what must arrive until it has, as ``tallyman_client`` does, and keeps books of it."""

    abstract = True
    _under_way: Sending | None = None

    def deliver(self, make: Callable[[], Sending]) -> None:
        """Send what is under way, or else something new; one try a task."""
        sending = self._under_way = self._under_way or make()
        answer = self.once(sending)
        if answer is not None:
            self._under_way = None
            sending.settled(answer)

    def on_stop(self) -> None:
        """Finish what is under way: a run ends with as little doubt as can be."""
        for _ in range(LAST_TRIES):
            if self._under_way is None:
                return
            self.deliver(_nothing_new)
        if self._under_way is not None:
            self._under_way.lost()


def _nothing_new() -> Sending:
    raise AssertionError("only what is under way is sent")


def _wrong(status: int, content: bytes | None) -> str | None:
    if status == 200:
        return None
    if not status:
        return "no answer"
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return f"{status} {json.loads(content or b'')['code']}"
    return str(status)


def _pause_s(headers: Any) -> float:
    given = headers.get("retry-after") if headers else None
    with contextlib.suppress(TypeError, ValueError):
        return min(PAUSE_S_MAX, float(given))
    return PAUSE_S
