"""The express way, over real sockets and beside the parser of the other way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from api.auth import Keyring
from api.hot.body import read_flags
from api.hot.dispatch import Dispatcher, Hot, Routes, respond_json
from api.hot.express import KEPT_MAX, Call, Express
from api.hot.heads import read_head, read_line
from api.settings import Limits
from catalog.clock import FixedClock
from catalog.errors import InvalidRequest
from catalog.keys import KeyId, KeyRecord, key_digest
from catalog.keys import Scope as KeyScope
from tests.api.running import serving

KEY = "k" * 40
LIMITS = Limits(header_bytes_max=1024, header_s_max=0.4, body_s_max=0.5, idle_s_max=3)


class Echo:
    """Answers which way a request came, and with what.

    The body asks for "slow" and "wrong"; the express way takes bodies that begin with "x".
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI way."""
        read_flags(scope, ())
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await respond_json(send, {"way": "asgi", "body": body.decode(), **scope["path_params"]})

    def take(self, call: Call) -> bool:
        """The express way."""
        body = call.body.decode()
        if not body.startswith("x"):
            return False
        if body == "x refused":
            raise InvalidRequest("the other way says why")
        call.run(self._work(body, call))
        return True

    async def _work(self, body: str, call: Call) -> bytes:
        if "slow" in body:
            await asyncio.sleep(0.2)
        if "wrong" in body:
            raise InvalidRequest("wrong")
        if "broken" in body:
            raise RuntimeError
        return json.dumps({"way": "express", "body": body, **call.parameters}).encode()


class Edge:
    """A dispatcher and the express way over the same routes and keys."""

    def __init__(self) -> None:
        self.clock = FixedClock(0)
        self.keyring = self.keys()
        self.observed: list[tuple[str, str, int]] = []
        self.routes = Routes(
            [Hot(method="POST", path="/v1/customers/{c}/entitlements/x", handler=Echo())]
        )
        self.dispatcher = Dispatcher(
            routes=self.routes,
            fallback=Echo(),
            keyring=lambda: self.keyring,
            look_again=self.look_again,
            observe=self.observe,
            headers=((b"tallyman-sandbox", b"true"),),
        )
        self.express = Express(
            routes=self.routes,
            keyring=lambda: self.keyring,
            observe=self.observe,
            head_bytes_max=LIMITS.header_bytes_max,
            headers=((b"tallyman-sandbox", b"true"),),
        )

    def keys(self, *, revoked: bool = False, scope: KeyScope = KeyScope.ENTITLEMENTS) -> Keyring:
        """A keyring with the one key."""
        record = KeyRecord(
            id=KeyId("k"),
            digest=key_digest(KEY),
            name="k",
            scopes=frozenset({scope}),
            created_at=0,
            expires_at=1_000,
            revoked_at=1 if revoked else None,
        )
        return Keyring([record], clock=self.clock)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Remember an answer."""
        assert seconds >= 0
        self.observed.append((method, route, status))

    async def look_again(self) -> None:
        """There is nothing new."""


@contextlib.asynccontextmanager
async def edge() -> AsyncIterator[tuple[Edge, int]]:
    """The edge and its port."""
    made = Edge()
    async with serving(made.dispatcher, limits=LIMITS, express=made.express) as port:
        yield made, port


def request(body: str, *headers: str, customer: str = "acme", key: str = KEY) -> bytes:
    """A whole request."""
    told = [f"content-length: {len(body)}", f"Authorization: Bearer {key}", *headers, "", ""]
    line = f"POST /v1/customers/{customer}/entitlements/x HTTP/1.1"
    return "\r\n".join([line, "Host: here", *told]).encode() + body.encode()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next answer: status, headers, document."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert len(headers) == len(lines), "a header is there twice"
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(body)

    async def ask(self, content: bytes) -> tuple[int, dict[str, str], Any]:
        """Send and wait."""
        self.writer.write(content)
        return await self.answer()

    async def ended(self) -> bool:
        """Whether the server closes."""
        return await asyncio.wait_for(self._reader.read(), 5) == b""


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """A connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_both_ways_answer_alike() -> None:
    """The same headers; the path's parameters; the same metrics."""
    async with edge() as (made, port), connected(port) as client:
        one = await client.ask(request("x", customer="a:1"))
        other = await client.ask(request("y", customer="a:1"))

    assert one[2] == {"way": "express", "body": "x", "c": "a:1"}
    assert other[2] == {"way": "asgi", "body": "y", "c": "a:1"}
    assert one[0] == other[0] == 200
    assert (
        one[1].keys()
        == other[1].keys()
        == {
            "date",
            "content-type",
            "content-length",
            "tallyman-sandbox",
            "x-request-id",
        }
    )
    assert made.observed == [("POST", "/v1/customers/{c}/entitlements/x", 200)] * 2


@pytest.mark.parametrize(
    "sent",
    [
        request("x", "Transfer-Encoding: identity"),
        request("x", "Connection: close"),
        request("x", "Expect: 100-continue"),
        request("x", "X-Unknown: 1"),
        request("x").replace(b"acme", b"ac%6de"),
        request("x", "Content-Encoding: identity"),
        request("x", "ce-id: 1"),
        request("x", "Accept: a", "Accept: b"),
        request("x").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_what_is_not_plain_takes_the_asgi_way(sent: bytes) -> None:
    """And is answered there."""
    async with edge() as (_, port), connected(port) as client:
        client.writer.write(sent)
        answer = (await client._reader.read(20)).decode()
        if "100" in answer:
            await client._reader.readuntil(b"\r\n\r\n")
        rest = (await client._reader.readuntil(b"}")).decode()

    assert "express" not in rest


async def test_an_error_that_is_there_at_once_is_the_other_ways() -> None:
    """The handler refuses, and the ASGI application is asked."""
    async with edge() as (_, port), connected(port) as client:
        status, _, document = await client.ask(request("x refused"))

    assert (status, document["way"]) == (200, "asgi")


async def test_a_later_error_is_a_problem() -> None:
    """With the request's id; and what nobody expected is a 500 that says nothing."""
    async with edge() as (made, port), connected(port) as client:
        status, headers, document = await client.ask(request("x wrong", "X-Request-Id: mine"))
        assert (status, document["code"], document["instance"]) == (422, "invalid_request", "mine")
        assert headers["x-request-id"] == "mine"
        assert headers["content-type"] == "application/problem+json"
        status, _, document = await client.ask(request("x broken"))
        assert (status, document["code"]) == (500, "internal")
        assert (await client.ask(request("x")))[2]["way"] == "express"

    assert [status for _, _, status in made.observed] == [422, 500, 200]


async def test_keys_are_asked_every_time() -> None:
    """A head that was let in before is not, once its key has expired or is revoked."""
    async with edge() as (made, port), connected(port) as client:
        assert (await client.ask(request("x")))[0] == 200
        assert (await client.ask(request("x", key="n" * 40)))[0] == 401
        made.clock = FixedClock(1_000)
        made.keyring = made.keys()
        assert (await client.ask(request("x")))[0] == 401
        made.clock = FixedClock(0)
        made.keyring = made.keys()
        assert (await client.ask(request("x")))[0] == 200
        made.keyring = made.keys(revoked=True)
        assert (await client.ask(request("x")))[0] == 401
        made.keyring = made.keys(scope=KeyScope.INGEST)
        assert (await client.ask(request("x")))[0] == 403


async def test_answers_come_in_order() -> None:
    """Pipelined in one piece or in several, on either way, while one is slow."""
    sent = [request("x slow"), request("y"), request("x 2"), request("x 3") + request("y 4")]
    async with edge() as (_, port), connected(port) as client:
        for piece in (*sent, b"".join(sent)):
            client.writer.write(piece)
            await asyncio.sleep(0.01)
        bodies = [(await client.answer())[2]["body"] for _ in range(10)]

    assert bodies == ["x slow", "y", "x 2", "x 3", "y 4"] * 2


async def test_parts_of_a_request_are_one() -> None:
    """Cut anywhere, also behind a request that is under way."""
    whole = request("x tail")
    async with edge() as (_, port), connected(port) as client:
        for cut in range(1, len(whole), 17):
            client.writer.write(request("x slow") if cut == 18 else request("x"))
            await asyncio.sleep(0.002)
            client.writer.write(whole[:cut])
            await asyncio.sleep(0.002)
            client.writer.write(whole[cut:])
            assert (await client.answer())[0] == 200
            assert (await client.answer())[2]["body"] == "x tail"


async def test_half_a_request_has_its_deadline() -> None:
    """On a connection that was in use before."""
    async with edge() as (_, port), connected(port) as client:
        assert (await client.ask(request("x")))[0] == 200
        status, _, document = await client.ask(request("x")[:30])

    assert (status, document["code"]) == (408, "request_timeout")


async def test_an_idle_connection_is_closed() -> None:
    """After one request on either way, in either order, and not before the time."""
    async with edge() as (_, port), connected(port) as client, connected(port) as other:
        await client.ask(request("x"))
        await client.ask(request("y"))
        await other.ask(request("y"))
        await other.ask(request("x"))
        await asyncio.sleep(1)  # far from the limit: a busy machine sleeps longer
        await other.ask(request("x"))
        assert await client.ended()
        began = asyncio.get_running_loop().time()
        assert await other.ended()
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_a_stop_waits_for_the_answer() -> None:
    """The request under way is answered, and told that it was the last."""
    async with edge() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = Client(reader, writer)
        writer.write(request("x slow"))
        await asyncio.sleep(0.05)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await client.ended()
    writer.close()


async def test_a_caller_that_leaves_is_forgotten() -> None:
    """Nothing is written to a closed connection, and the others go on."""
    async with edge() as (made, port), connected(port) as other:
        async with connected(port) as client:
            client.writer.write(request("x slow"))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert (await other.ask(request("x")))[0] == 200
    assert len(made.observed) == 2


def test_what_is_kept_is_bounded() -> None:
    """However many lines and heads come."""
    made = Edge()
    taken = 0
    for number in range(KEPT_MAX + 10):
        sent = request("y", f"User-Agent: {number}", customer=f"c{number}")
        taken += made.express.accept(sent, Unwritten())
    assert taken == 0
    assert max(made.express.kept()) <= KEPT_MAX


def test_heads_that_change_every_time_are_not_kept() -> None:
    """Traces and request ids."""
    made = Edge()
    for number in range(3):
        made.express.accept(request("y", f"traceparent: {number}"), Unwritten())
    assert made.express.kept() == (1, 0)


class Unwritten:
    """A wire that is never written to."""

    def reply(self, response: bytes) -> None:
        """Fail."""
        raise AssertionError(response)


class Parsed:
    """What the parser of the ASGI way makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url, self.body, self.messages = b"", b"", 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)
        self.keep_alive = self.parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


_FRAMING = ["content-length", "Content-Length", "connection", "Transfer-Encoding", "Expect", "Te"]
_OTHERS = ["Host", "Accept", "X-Request-Id", "Upgrade", "Content-Type", "content-length ", "\tHost"]
NAMES = st.sampled_from([*_FRAMING, *_OTHERS])
VALUES = st.sampled_from(
    ["1", "01", "+1", "1 ", " 1", "1, 1", "close", "keep-alive", "chunked", ""]
) | st.text(st.characters(max_codepoint=255), max_size=6)
ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "])


@given(
    headers=st.lists(
        st.tuples(NAMES, st.sampled_from([": ", ":", " : "]), VALUES, ENDS), max_size=5
    ),
    length=st.sampled_from(["1", "0", "01", "2"]),
    path=st.text("/ab.%?#:\\ é", max_size=6),
)
def test_what_is_read_here_is_what_the_parser_reads(headers, length, path):
    """The same headers, framing and target; and the parser refuses nothing that is read here."""
    line = f"POST /{path} HTTP/1.1".encode("latin-1")
    told = "".join(name + colon + value + end for name, colon, value, end in headers)
    text = f"\r\nauthorization: Bearer k\r\ncontent-length: {length}\r\n{told}"
    head_text = text.encode("latin-1").removesuffix(b"\r\n")
    routes = Routes([Hot(method="POST", path=f"/{path}", handler=Echo())])
    head, found = read_head(head_text), read_line(line, routes)
    if head is None or found is None:
        return
    parsed = Parsed(line + head_text + b"\r\n\r\n" + b"b" * head.content_length)
    assert parsed.messages == 1
    assert parsed.keep_alive
    assert len(parsed.body) == head.content_length
    assert {name.decode(): value.decode() for name, value in parsed.headers} == head.headers
    assert httptools.parse_url(parsed.url).path == found.hot.path.encode()


def test_the_plainest_head_is_read():
    """So that the test above compares something."""
    text = b"\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 12\r\nConnection: Keep-Alive"
    head = read_head(text)
    assert head is not None
    assert (head.key, head.content_length) == ("k", 12)
