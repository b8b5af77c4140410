"""What can go wrong.

TallymanError
├── ApiError                 the service answered, and not with 2xx
│   ├── InvalidRequest       400, 415, 422: the request is wrong; repeating it changes nothing
│   ├── Unauthenticated      401: no valid key
│   ├── Forbidden            403: the key lacks the scope
│   ├── NotFound             404
│   ├── Conflict             409: key_reused, reservation_expired, …: see ``code``
│   ├── TooLarge             413
│   ├── RateLimited          429, after all retries
│   └── Unavailable          408 and 5xx, after all retries
├── Unreachable              no readable answer in time: whether it took effect is unknown
├── BufferFull               record() had no room
├── FlushTimeout             flush() could not deliver everything in time
└── Closed                   the client is closed
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TallymanError(Exception):
    """The base of all errors of this package.

    ``code`` is stable and meant for programs, ``status`` is the HTTP status (None without an
    answer), ``problem`` the service's problem document. ``key`` is the idempotency key of the
    decision that failed, where there was one: repeat the call with it and it counts once.
    """

    code = "error"
    status: int | None = None
    problem: Mapping[str, Any] = _NOTHING
    key: str | None = None


class ApiError(TallymanError):
    """The service answered with an error. ``retry_after_s`` is what it asked for, if it did."""

    def __init__(
        self, status: int, problem: Mapping[str, Any], *, retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code") or f"http_{status}")
        self.retry_after_s = retry_after_s
        detail = problem.get("detail") or problem.get("title") or "no explanation"
        super().__init__(f"{detail} ({status} {self.code})")


class InvalidRequest(ApiError):
    """The request is wrong as it stands (400, 415, 422 and other 4xx)."""


class Unauthenticated(ApiError):
    """The key is missing, unknown, expired or revoked (401)."""


class Forbidden(ApiError):
    """The key lacks the scope for this (403)."""


class NotFound(ApiError):
    """There is no such thing, or no such route (404)."""


class Conflict(ApiError):
    """It contradicts what is there (409): ``code`` says what, as ``key_reused``."""


class TooLarge(ApiError):
    """The body is over a limit of the service (413)."""


class RateLimited(ApiError):
    """This key sends too much (429)."""


class Unavailable(ApiError):
    """The service cannot answer now (408 or 5xx)."""


class Unreachable(TallymanError):
    """No readable answer in time. Whether the request took effect is unknown."""

    code = "unreachable"
    retry_after_s: float | None = None


class BufferFull(TallymanError):
    """The buffer has no room for the event; it was not taken."""

    code = "buffer_full"


class FlushTimeout(TallymanError):
    """Not everything was delivered in time; the rest is kept and still on its way."""

    code = "flush_timeout"


class Closed(TallymanError):
    """The client is closed; nothing was taken."""

    code = "closed"


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: TooLarge,
    429: RateLimited,
}


def error_of(
    status: int, problem: Mapping[str, Any], *, retry_after_s: float | None = None
) -> ApiError:
    """The error a status stands for."""
    fallback = Unavailable if status >= 500 else InvalidRequest
    kind = _BY_STATUS.get(status, fallback)
    return kind(status, problem, retry_after_s=retry_after_s)
