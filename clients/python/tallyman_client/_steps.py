"""One request with its retries, as steps that somebody else carries out.

A generator yields what to do (send this, wait so long) and is sent what came of it. So the same
logic serves threads and tasks, and tests need neither.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, TypeVar

from tallyman_client._errors import ApiError, Unreachable, error_of
from tallyman_client._options import Retry

JSON = "application/json"
_RETRIED = frozenset({408, 429})
_DETAIL_CHARS_MAX = 200
_POWER_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What goes to the service, the same bytes at every attempt. ``path`` is quoted."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    content_type: str = JSON
    content_encoding: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers that describe the body."""
        if not self.content:
            return {}
        described = {"content-type": self.content_type}
        if self.content_encoding is not None:
            described["content-encoding"] = self.content_encoding
        return described


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send ``request`` once and send back a Reply, within ``timeout_s``."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, and send back None."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service answered, read to its end."""

    status: int
    content: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer. The request may have taken effect all the same."""

    why: str


Reply = Answer | NoAnswer | None

T = TypeVar("T")
Steps = Generator[Attempt | Pause, Reply, T]
"""Work that ends in a T, by way of attempts and pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """The clocks and the dice.

    The dice are the system's: the program's own ``random`` stays as it seeded it, and forks differ.
    """

    monotonic: Callable[[], float] = time.monotonic
    time_ns: Callable[[], int] = time.time_ns
    uniform: Callable[[float, float], float] = random.SystemRandom().uniform


def exchange(
    request: Request,
    retry: Retry,
    ambient: Ambient,
    *,
    read: Callable[[Any], T],
    on_attempt: Callable[[int], None],
) -> Steps[T]:
    """Send ``request`` until it is answered for good; answers what ``read`` makes of the JSON.

    Repeated are: no answer, an unreadable one (``read`` raised TypeError, LookupError, ValueError
    or ArithmeticError), 408, 429 and 5xx. ``on_attempt`` is told the number of each attempt, from
    0, before it is made.

    Raises:
        ApiError: the service said no, or could not until the time was up.
        Unreachable: no answer until the time was up.
    """
    deadline = ambient.monotonic() + retry.total_s_max
    for number in count():
        on_attempt(number)
        left_s = max(0.001, deadline - ambient.monotonic())
        reply = yield Attempt(request, min(retry.attempt_s_max, left_s))
        try:
            return _read(reply, read, ambient)
        except (ApiError, Unreachable) as error:
            pause_s = pause_before(number, error, retry, ambient)
            if not is_retried(error) or ambient.monotonic() + pause_s >= deadline:
                raise
        yield Pause(pause_s)
    raise AssertionError("count() does not end")


def is_retried(error: ApiError | Unreachable) -> bool:
    """Whether the same request may fare better later."""
    return error.status is None or error.status >= 500 or error.status in _RETRIED


def pause_before(
    number: int, error: ApiError | Unreachable, retry: Retry, ambient: Ambient
) -> float:
    """Seconds to wait after the failed attempt ``number``: what was asked for, plus full jitter."""
    ceiling = min(retry.pause_s_max, retry.pause_s_first * 2 ** min(number, _POWER_MAX))
    return (error.retry_after_s or 0.0) + ambient.uniform(0.0, ceiling)


def retry_after_s(text: str | None, *, now_ns: int) -> float | None:
    """A Retry-After header, in seconds or as a date, as seconds from now; None if unreadable."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_ns / 1e9)
    except (TypeError, ValueError):
        return None


def _read(reply: Reply, read: Callable[[Any], T], ambient: Ambient) -> T:
    match reply:
        case Answer(status=status) if 200 <= status < 300:
            try:
                return read(json.loads(reply.content) if reply.content else None)
            except (TypeError, LookupError, ValueError, ArithmeticError) as error:
                raise Unreachable(f"the answer is not what was expected: {error!r}") from error
        case Answer(status=status):
            asked_s = retry_after_s(reply.retry_after, now_ns=ambient.time_ns())
            raise error_of(status, _problem(reply), retry_after_s=asked_s)
        case NoAnswer(why):
            raise Unreachable(why)
        case None:
            raise AssertionError("an attempt was answered with nothing")


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        document = json.loads(answer.content)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"detail": answer.content[:_DETAIL_CHARS_MAX].decode(errors="replace").strip()}
