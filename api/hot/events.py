"""POST /v1/events and /v1/events/void, in plain ASGI."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from api.hot.body import Budget, headers_of, read_body, read_flags
from api.hot.counts import counts
from api.hot.dispatch import respond, respond_json
from api.hot.express import Call
from api.reach import check_sources, is_limited_to_sources
from api.voiding import Voiding
from catalog.errors import FieldError, InvalidRequest
from ingest.batch import (
    Body,
    BodyTooLarge,
    Checked,
    EmptyBody,
    IngestLimits,
    UnreadableBody,
    UnsupportedMediaType,
)
from ingest.commit import Ingestor
from ingest.group import Outcome
from ingest.inflate import inflate
from ingest.jsontext import NotStrictJson, parse_strict
from ingest.scan import BodyReader, Plain, plain_body
from ingest.times import parse_time
from ingest.voids import VoidItem

INLINE_BYTES_MAX = 256 * 1024
"""Larger bodies are read in a thread, so that others need not wait for them (about 2 ms)."""


@dataclass(slots=True, kw_only=True)
class IngestRoute:
    """What both routes share: the way to the log, and how much they take."""

    ingestor: Ingestor
    limits: IngestLimits
    budget: Budget

    @classmethod
    def build(cls, ingestor: Ingestor, limits: IngestLimits) -> IngestRoute:
        """With a budget for the bodies under way: as much as the queue may hold."""
        return cls(ingestor=ingestor, limits=limits, budget=Budget(limits.queue_bytes_max))


class IngestEvents:
    """POST /v1/events: take a body of events, answer 200 with what became of each.

    The answer means durable: ``submit`` returns once the group these events joined has been
    fsynced. ``?atomic=true`` keeps all or nothing, ``?dry_run=true`` keeps nothing. A body that is
    not read together with its group is read by a reader of ``body_reader``'s, one a thread.
    """

    def __init__(self, route: IngestRoute, body_reader: Callable[[], BodyReader]) -> None:
        self._route = route
        self._body_reader = body_reader
        self._readers = threading.local()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            DomainError: see :mod:`ingest.batch`, :mod:`ingest.commit` and :mod:`api.hot.body`.
        """
        flags = read_flags(scope, ("atomic", "dry_run"))
        route = self._route
        route.ingestor.check_room()
        headers = headers_of(scope)
        with route.budget.share() as share:
            content = await read_body(receive, headers, limits=route.limits, share=share)
            body = await self._body(content, headers, scope)
            outcome = await route.ingestor.submit(
                body, atomic="atomic" in flags, dry_run="dry_run" in flags
            )
        if "dry_run" not in flags:
            counts.took(outcome)
        await respond(send, _shown(outcome), content_type=b"application/json")

    def take(self, call: Call) -> bool:
        """Take a plain body that need not be read before its group: see :mod:`api.hot.express`.

        Raises:
            Backpressure, LogUnavailable: see :mod:`ingest.commit`.
        """
        content, headers = call.body, call.head.headers
        if len(content) > INLINE_BYTES_MAX or len(content) > self._route.limits.body_bytes_max:
            return False
        kind = headers.get("content-type", "")
        plain = plain_body(Body(content=content, content_type=kind, headers=headers))
        if plain is None:
            return False
        waiter = _Waiter(call, self._route.budget)
        waiter.hold()
        try:
            self._route.ingestor.offer(plain, waiter)
        except BaseException:
            waiter.let_go()
            raise
        return True

    async def _body(self, content: bytes, headers: dict[str, str], scope: Scope) -> Checked | Plain:
        if is_limited_to_sources(scope):
            # Before its group: whose events they are is known only once they are read.
            checked = await asyncio.to_thread(self._read, content, headers)
            check_sources(scope, checked.records.column("source").unique().to_pylist())
            return checked
        if len(content) > INLINE_BYTES_MAX or "content-encoding" in headers:
            return await asyncio.to_thread(self._read, content, headers)
        body = Body(content=content, content_type=headers.get("content-type", ""), headers=headers)
        return plain_body(body) or self._reader().read(body)

    def _read(self, content: bytes, headers: dict[str, str]) -> Checked:
        inflated = inflate(content, headers.get("content-encoding", ""), self._route.limits)
        body = Body(content=inflated, content_type=headers.get("content-type", ""), headers=headers)
        return self._reader().read(body)

    def _reader(self) -> BodyReader:
        """This thread's own: a reader keeps what it fills from one body to the next."""
        reader: BodyReader | None = getattr(self._readers, "reader", None)
        if reader is None:
            reader = self._readers.reader = self._body_reader()
        return reader


class _Waiter:
    """A call that waits for its group: what :meth:`ingest.commit.Ingestor.offer` tells."""

    __slots__ = ("_budget", "_call")

    def __init__(self, call: Call, budget: Budget) -> None:
        self._call = call
        self._budget = budget

    def hold(self) -> None:
        self._budget.take(len(self._call.body))

    def let_go(self) -> None:
        self._budget.held_bytes -= len(self._call.body)

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome) -> None:
        self.let_go()
        counts.took(outcome)
        self._call.answer(_shown(outcome))

    def set_exception(self, error: BaseException) -> None:
        self.let_go()
        self._call.fail(error)


def _shown(outcome: Outcome) -> bytes:
    if not outcome.rejected:
        return _shown_clean(outcome.accepted, outcome.duplicates)
    shown = [rejection.as_json() for rejection in outcome.rejected]
    told = {"accepted": outcome.accepted, "duplicates": outcome.duplicates, "rejected": shown}
    return orjson.dumps(told)


@lru_cache(1024)
def _shown_clean(accepted: int, duplicates: int) -> bytes:
    return orjson.dumps({"accepted": accepted, "duplicates": duplicates, "rejected": []})


class _Void(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    id: str
    reason: str = ""
    time: str | None = None


_voids = msgspec.json.Decoder(list[_Void])


class VoidEvents:
    """POST /v1/events/void: events that shall not count, by identity, with the reason."""

    def __init__(self, route: IngestRoute, voiding: Voiding) -> None:
        self._route = route
        self._voiding = voiding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            DomainError: see :func:`read_voids`, :mod:`api.voiding` and :mod:`api.hot.body`.
        """
        read_flags(scope, ())
        route = self._route
        headers = headers_of(scope)
        with route.budget.share() as share:
            content = await read_body(receive, headers, limits=route.limits, share=share)
            media = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media != "application/json":
                raise UnsupportedMediaType("voids are read from application/json")
            content = inflate(content, headers.get("content-encoding", ""), route.limits)
            items = read_voids(content, route.limits)
            check_sources(scope, (item.source for item in items))
            outcome = await self._voiding(items)
        await respond_json(send, outcome.as_json())


def read_voids(content: bytes, limits: IngestLimits) -> list[VoidItem]:
    """Read ``[{source, id, reason?, time?}]``.

    Raises:
        EmptyBody, UnreadableBody, BodyTooLarge: see there.
        InvalidRequest: an item lacks a field, or has one that is not known.
    """
    if not content.strip():
        raise EmptyBody("the body is empty")
    try:
        parse_strict(content.decode(), depth=0)
    except (UnicodeDecodeError, NotStrictJson) as error:
        raise UnreadableBody(f"the body is not JSON: {error}") from None
    try:
        items = _voids.decode(content)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error), errors=[_field_error(error)]) from None
    if len(items) > limits.events_max:
        raise BodyTooLarge(f"more than {limits.events_max} items in one body")
    long = [
        FieldError(pointer=f"/{index}/reason", detail=f"over {limits.field_bytes_max} bytes")
        for index, item in enumerate(items)
        if len(item.reason.encode()) > limits.field_bytes_max
    ]
    if long:
        raise InvalidRequest("a reason is too long", errors=long)
    times = [None if item.time is None else parse_time(item.time) for item in items]
    wrong = [
        FieldError(pointer=f"/{index}/time", detail="not an RFC 3339 time with its offset")
        for index, (item, time) in enumerate(zip(items, times, strict=True))
        if item.time is not None and time is None
    ]
    if wrong:
        raise InvalidRequest("a time cannot be read", errors=wrong)
    return [
        VoidItem(index=index, source=item.source, id=item.id, reason=item.reason, time=time)
        for index, (item, time) in enumerate(zip(items, times, strict=True))
    ]


def _field_error(error: msgspec.ValidationError) -> FieldError:
    """Read msgspec's ``… - at `$[0].source``` as a JSON pointer."""
    detail, _, path = str(error).partition(" - at `$")
    pointer = path.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
    return FieldError(pointer=pointer, detail=detail)
