"""When a request is repeated, and how long; no network, no waiting: the steps alone."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman_client import (
    ApiError,
    Conflict,
    InvalidRequest,
    NotFound,
    Retry,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from tallyman_client._steps import (
    Ambient,
    Answer,
    Attempt,
    NoAnswer,
    Reply,
    Request,
    exchange,
    retry_after_s,
)

REQUEST = Request(method="POST", path="/x")
OK = Answer(status=200, content=b'{"n": 1}')
NOW_NS = 1_800_000_000_000_000_000


@dataclass
class World:
    """A clock that moves by what is done, dice with a seed, and answers in order."""

    replies: list[Reply]
    seed: int = 0
    attempt_s: float = 0.0
    now: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    ceilings: list[float] = field(default_factory=list)

    def run(self, retry: Retry, read: Any = dict) -> Any:
        """What the exchange ends in."""
        dice = random.Random(self.seed)

        def uniform(low: float, high: float) -> float:
            self.ceilings.append(high)
            return dice.uniform(low, high)

        ambient = Ambient(monotonic=lambda: self.now, time_ns=lambda: NOW_NS, uniform=uniform)
        steps = exchange(REQUEST, retry, ambient, read=read, on_attempt=lambda _: None)
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                return done.value
            reply = None
            if isinstance(step, Attempt):
                self.attempts.append(step)
                self.now += min(self.attempt_s, step.timeout_s)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            else:
                self.pauses.append(step.seconds)
                self.now += step.seconds


def failed(status: int, **more: Any) -> Answer:
    """An error answer."""
    content = json.dumps({"code": "some_code", "detail": "why"}).encode()
    return Answer(status=status, content=content, **more)


@pytest.mark.parametrize("reply", [failed(408), failed(429), failed(500), failed(503), failed(599)])
def test_what_may_pass_is_repeated(reply: Answer) -> None:
    """408, 429, every 5xx: until it is answered."""
    world = World([reply, reply, OK])
    assert world.run(Retry(attempt_s_max=1, total_s_max=10)) == {"n": 1}
    assert len(world.attempts) == 3


@pytest.mark.parametrize("reply", [NoAnswer("cut"), Answer(status=200, content=b"<html>")])
def test_no_or_no_readable_answer_is_repeated(reply: Reply) -> None:
    """A proxy's page with status 200 says nothing about the events."""
    world = World([reply, OK])
    assert world.run(Retry(attempt_s_max=1, total_s_max=10)) == {"n": 1}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthenticated),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (418, InvalidRequest),
        (422, InvalidRequest),
        (302, InvalidRequest),
    ],
)
def test_what_cannot_pass_is_not(status: int, error: type[ApiError]) -> None:
    """Any other answer is raised at once, with code, status and problem."""
    world = World([failed(status)])
    with pytest.raises(error, match="why") as raised:
        world.run(Retry(attempt_s_max=1, total_s_max=10))
    assert len(world.attempts) == 1
    assert (raised.value.status, raised.value.code) == (status, "some_code")
    assert raised.value.problem["detail"] == "why"


@given(
    seed=st.integers(0, 2**32),
    total_s=st.floats(0.5, 100),
    attempt_s=st.floats(0.0, 5.0),
    asked=st.none() | st.integers(0, 30),
)
def test_trying_ends_in_time(
    seed: int, total_s: float, attempt_s: float, asked: int | None
) -> None:
    """Whatever the attempts take and Retry-After asks for, all of it stays within the total."""
    reply = failed(503, retry_after=None if asked is None else str(asked))
    world = World([reply], seed=seed, attempt_s=attempt_s + 0.01)
    retry = Retry(attempt_s_max=2.0, total_s_max=total_s, pause_s_first=0.1, pause_s_max=3.0)
    with pytest.raises(Unavailable):
        world.run(retry)
    assert world.now <= total_s + 0.002
    assert all(step.timeout_s <= 2.0 for step in world.attempts)
    assert all(pause >= (asked or 0) for pause in world.pauses)
    doubling = [min(3.0, 0.1 * 2**n) for n in range(len(world.ceilings))]
    assert world.ceilings == doubling


def test_jitter_is_full() -> None:
    """Pauses of many clients spread over the whole range: no wave comes back at once."""
    firsts = []
    for seed in range(500):
        world = World([NoAnswer("cut"), OK], seed=seed)
        world.run(Retry(attempt_s_max=1, total_s_max=10, pause_s_first=1.0))
        firsts.append(world.pauses[0])
    assert min(firsts) < 0.05
    assert max(firsts) > 0.95
    assert 0.4 < sum(firsts) / len(firsts) < 0.6


def test_without_an_answer_the_outcome_is_unknown() -> None:
    """It is Unreachable, with the reason, and no status."""
    with pytest.raises(Unreachable, match="refused") as raised:
        World([NoAnswer("refused")], attempt_s=1).run(Retry(attempt_s_max=1, total_s_max=2))
    assert (raised.value.status, raised.value.code) == (None, "unreachable")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        (formatdate(NOW_NS / 1e9 + 90, usegmt=True), 90.0),
        (formatdate(NOW_NS / 1e9 - 90, usegmt=True), 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        (None, None),
        ("9" * 400, 999_999_999.0),
    ],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    """Seconds or a date; nonsense is as if it were not there."""
    assert retry_after_s(text, now_ns=NOW_NS) == seconds
