"""A small service over real HTTP that fails as it is told to, and counts what arrives.

It keeps what the real one promises: identity is (source, id), a copy is a duplicate, and an event
is in the books before the answer leaves, whether or not that answer arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import zstandard

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request. ``after`` it took effect, or before.

    ``status`` answers that, ``hang_s`` waits first, ``cut`` ends the connection without an answer,
    ``body`` answers 200 with these bytes instead of JSON.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    cut: bool = False
    body: bytes | None = None
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it arrived, inflated."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


class Cut(Exception):
    """Ends the connection: uvicorn closes it when an app fails after it began to answer."""


class FlakyService:
    """The books (``accepted``, ``arrivals`` by identity), and what goes wrong.

    ``faults`` are used up one a request; then ``fault`` is asked for each. ``respond`` answers
    paths other than /v1/events. Only the server's thread writes the books.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.accepted: dict[tuple[str, str], dict[str, Any]] = {}
        self.arrivals: Counter[tuple[str, str]] = Counter()
        self.requests: list[Seen] = []
        self.faults: list[Fault] = []
        self.fault: Callable[[Seen], Fault | None] = lambda request: None
        self.respond: Callable[[Seen], Any] = lambda request: None
        self.reject: Callable[[dict[str, Any]], str | None] = lambda event: None
        self.events_max = 1_000_000

    def ids(self) -> set[str]:
        """The ids in the books."""
        return {id_ for _, id_ in self.accepted}

    def events(self) -> list[dict[str, Any]]:
        """The events in the books."""
        return list(self.accepted.values())

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request, or fail as told."""
        request = await _read(scope, receive)
        self.requests.append(request)
        fault = self.faults.pop(0) if self.faults else self.fault(request)
        if fault is not None and not fault.after:
            await _fail(fault, send)
            return
        status, answer = self._answer(request)
        if fault is not None:
            await _fail(fault, send)
            return
        await _respond(send, status, json.dumps(answer).encode())

    def _answer(self, request: Seen) -> tuple[int, Any]:
        if request.path != "/v1/events":
            answer = self.respond(request)
            return answer if isinstance(answer, tuple) else (200, answer)
        events = request.json()
        if len(events) > self.events_max:
            return 413, {"code": "too_many_events", "detail": "too many"}
        counts = Counter[str]()
        rejected = []
        for index, event in enumerate(events):
            identity = (event["source"], event["id"])
            self.arrivals[identity] += 1
            code = self.reject(event)
            if code is not None:
                row = {"index": index, "id": event["id"], "code": code, "detail": f"is {code}"}
                rejected.append(row)
            elif identity in self.accepted:
                counts["duplicates"] += 1
            else:
                self.accepted[identity] = event
                counts["accepted"] += 1
        return 200, {
            "accepted": counts["accepted"],
            "duplicates": counts["duplicates"],
            "rejected": rejected,
        }


class Front:
    """One server for many services, each under a path of its own.

    So a request that a test gave up on, and that arrives later, is in no other test's books.
    """

    def __init__(self) -> None:
        self.url = ""
        self._services: dict[str, FlakyService] = {}

    def open(self) -> FlakyService:
        """A new service with empty books, where nothing goes wrong."""
        name = str(len(self._services))
        service = self._services[name] = FlakyService(f"{self.url}/{name}")
        return service

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Hand a request to its service."""
        name, _, path = scope["raw_path"].decode().removeprefix("/").partition("/")
        await self._services[name]({**scope, "raw_path": f"/{path}".encode()}, receive, send)


@contextlib.contextmanager
def running() -> Iterator[Front]:
    """Serve on a free loopback port, from a thread, until the end."""
    front = Front()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            front, log_level="critical", lifespan="off", ws="none", access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=_serve, args=(server, listener))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield front
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10)
            assert not thread.is_alive()


def wait_until(happened: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Poll until ``happened``, or fail."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def problem(status: int, code: str, **headers: str) -> Fault:
    """A problem document as an answer."""
    body = json.dumps({"code": code, "detail": f"told to be {code}", "status": status}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=status, headers=named, body=body)


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[listener]))


async def _read(scope: Scope, receive: Any) -> Seen:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    match headers.get("content-encoding"):
        case "gzip":
            body = gzip.decompress(body)
        case "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
    return Seen(
        method=scope["method"],
        path=scope["raw_path"].decode(),
        query=scope["query_string"].decode(),
        headers=headers,
        body=body,
        at=time.monotonic(),
    )


async def _fail(fault: Fault, send: Any) -> None:
    if fault.hang_s:
        await asyncio.sleep(fault.hang_s)
    if fault.cut:
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise Cut
    await _respond(send, fault.status or 200, fault.body or b"", fault.headers)


async def _respond(
    send: Any, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
