"""Request bodies in plain ASGI: bounded in bytes, in time, and in how many are held at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from api.paging import LIMIT_DEFAULT, LIMIT_MAX
from api.parameters import UnknownParameter
from api.relay import ClientGone
from catalog.errors import DomainError, FieldError, InvalidRequest
from ingest.batch import BodyTooLarge, IngestLimits
from ingest.commit import Backpressure


class RequestTimeout(DomainError):
    """The body did not arrive in time."""

    code = "request_timeout"


class Budget:
    """How many bytes of bodies this process holds at once, from the first byte to the answer."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    def share(self) -> Share:
        """A request's part of the budget: a context manager that gives it back at the end."""
        return Share(self)

    def take(self, size_bytes: int) -> None:
        """Count bytes in.

        Raises:
            Backpressure: there is no room for them.
        """
        if self.held_bytes + size_bytes > self._bytes_max:
            raise Backpressure("too many bodies are being received")
        self.held_bytes += size_bytes


class Share:
    """What one request holds of a :class:`Budget`."""

    __slots__ = ("_budget", "size_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.held_bytes -= self.size_bytes

    def take(self, size_bytes: int) -> None:
        """Hold more.

        Raises:
            Backpressure: see :meth:`Budget.take`.
        """
        self._budget.take(size_bytes)
        self.size_bytes += size_bytes


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers by lower-case name; of a repeated one the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(
    receive: Receive, headers: dict[str, str], *, limits: IngestLimits, share: Share
) -> bytes:
    """Read a body whole.

    Raises:
        BodyTooLarge: it is, or says it is, over ``body_bytes_max``.
        RequestTimeout: it took longer than ``body_s_max``.
        Backpressure: there is no room for it.
        ClientGone: the caller hung up.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.body_bytes_max:
        raise _too_large(limits)
    if _is_here(receive):  # then nothing is waited for, and a timer would cost more than the rest
        return await _read(receive, limits, share)
    try:
        async with asyncio.timeout(limits.body_s_max):
            return await _read(receive, limits, share)
    except TimeoutError:
        raise RequestTimeout(f"the body took over {limits.body_s_max:g} s") from None


def _is_here(receive: Receive) -> bool:
    """Whether uvicorn has the whole body already; False where that cannot be told."""
    cycle = getattr(receive, "__self__", None)
    return getattr(cycle, "more_body", True) is False


async def _read(receive: Receive, limits: IngestLimits, share: Share) -> bytes:
    parts: list[bytes] = []  # joined once: adding to a bytes copies it every time
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        share.take(len(part))
        if share.size_bytes > limits.body_bytes_max:
            raise _too_large(limits)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_flags(scope: Scope, names: Iterable[str]) -> set[str]:
    """Which of the query parameters ``names``, each ``true`` or ``false``, are true.

    Raises:
        UnknownParameter: there is another one.
        InvalidRequest: one is neither true nor false, or is repeated.
    """
    found = _query(scope, names)
    for name, value in found.items():
        if value not in {"true", "false"}:
            raise _wrong(name, "is true or false")
    return {name for name, value in found.items() if value == "true"}


def read_page(scope: Scope) -> tuple[int, str | None]:
    """The ``limit`` and ``cursor`` of a list, its only query parameters.

    Raises:
        UnknownParameter: there is another one.
        InvalidRequest: the limit is no number from 1 to 1,000, or one of them is repeated.
    """
    found = _query(scope, ("limit", "cursor"))
    text = found.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LIMIT_MAX):
        raise _wrong("limit", f"is a number from 1 to {LIMIT_MAX}")
    return int(text), found.get("cursor")


def _query(scope: Scope, names: Iterable[str]) -> dict[str, str]:
    query: bytes = scope["query_string"]
    if not query:
        return {}
    known, found = set(names), dict[str, str]()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            error = FieldError(pointer=f"?{name}", detail="no such query parameter")
            raise UnknownParameter(f"unknown: {name}", errors=[error])
        if name in found:
            raise _wrong(name, "is there twice")
        found[name] = value
    return found


def _wrong(name: str, detail: str) -> InvalidRequest:
    error = FieldError(pointer=f"?{name}", detail=detail)
    return InvalidRequest(f"{name} {detail}", errors=[error])


def _too_large(limits: IngestLimits) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {limits.body_bytes_max} bytes")
