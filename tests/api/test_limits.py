"""HTTP limits, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest
from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond_json
from api.limits import AHEAD_MAX, peer_of
from api.settings import Limits
from tests.api.running import serving

LIMITS = Limits(header_bytes_max=1024, header_s_max=0.4, body_s_max=0.5, connections_max=20)
NEIGHBOUR_S_MAX = 0.25
"""What a healthy neighbour's request may take meanwhile, on a machine that is shared."""


async def count_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer its length."""
    received = 0
    if scope["path"] != "/unread":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            received += len(message.get("body", b""))
            if not message.get("more_body"):
                break
    await respond_json(send, received)


async def exchange(port: int, *parts: bytes | float) -> bytes:
    """Send bytes, pause for numbers; answer all that came until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            else:
                await asyncio.sleep(part)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


def request(head: str, body: bytes = b"") -> bytes:
    """A whole request, the last one of its connection."""
    lines = [*head.splitlines(), f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


GET = request("GET / HTTP/1.1\nhost: x")


async def test_an_ordinary_request_passes() -> None:
    """In one piece, in many pieces, and with a body that is larger than the header limit."""
    whole = request("POST / HTTP/1.1\nhost: x", b"b" * 5000)
    async with serving(count_body, limits=LIMITS) as port:
        assert (await exchange(port, whole)).endswith(b"5000")
        pieces = [piece for at in range(0, 60, 10) for piece in (whole[at : at + 10], 0.02)]
        assert (await exchange(port, *pieces, whole[60:])).endswith(b"5000")


@pytest.mark.parametrize("size", [1100, 3000, 100_000])
@pytest.mark.parametrize("finished", [True, False])
async def test_large_headers_are_431(size: int, *, finished: bool) -> None:
    """One header or many, complete or never ending."""
    head = "GET / HTTP/1.1\r\nhost: x\r\nx-long: " + "x" * size
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, (head + ("\r\n\r\n" if finished else "")).encode())

    assert answer.startswith(b"HTTP/1.1 431 "), answer[:100]
    assert b'"code":"headers_too_large"' in answer


async def test_a_long_target_is_431() -> None:
    """The request line counts too."""
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, request(f"GET /{'x' * 2000} HTTP/1.1\nhost: x"))

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_slow_headers_are_408() -> None:
    """The deadline is absolute: a byte now and then does not extend it."""
    async with serving(count_body, limits=LIMITS) as port:
        began = time.monotonic()
        trickle = [piece for _ in range(12) for piece in (b"x", 0.05)]
        answer = await exchange(port, b"GET / HTTP/1.1\r\nhost: ", *trickle)

        assert answer.startswith(b"HTTP/1.1 408 ") or answer == b"reset"
        assert time.monotonic() - began < 1.5
        assert (await exchange(port)).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_body_is_408() -> None:
    """And the handler that waits for it learns that nobody is there."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc"
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, head)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_keep_alive_has_a_deadline_per_request() -> None:
    """A connection in use outlives the header deadline; its next half request does not."""
    async with serving(count_body, limits=LIMITS) as port:
        one = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        answer = await exchange(port, one, 0.3, one, 0.3, one, 0.1, b"GET / HT")

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b"HTTP/1.1 408 ") == 1


async def test_pipelined_requests_are_not_mistaken_for_headers() -> None:
    """Bytes of an earlier request's body do not count as the next one's headers."""
    first = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n" + b"b" * 3000
    rest = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, first + rest[:20], 0.1, rest[20:])

    assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_what_is_not_http_is_400() -> None:
    """As a problem document."""
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, b"\x16\x03\x01 hello\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


async def test_an_unread_body_does_not_destroy_the_answer() -> None:
    """A handler may answer before the body has come; the caller still reads the answer."""
    async with serving(count_body, limits=LIMITS) as port:
        answer = await exchange(port, request("POST /unread HTTP/1.1\nhost: x", b"b" * 3_000_000))

    assert answer.startswith(b"HTTP/1.1 200 ") or answer == b"reset"
    async with serving(count_body, limits=LIMITS) as port:
        head = b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
        next_one = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = await exchange(port, head + b"b" * 3_000_000 + next_one)

    assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_too_many_connections_are_told_so() -> None:
    """The ones that are there go on; the one too many is refused with 503."""
    async with serving(count_body, limits=LIMITS) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        await asyncio.sleep(0.05)
        refused = await exchange(port)
        held[0][1].write(request("GET / HTTP/1.1\nhost: x"))
        served = await held[0][0].read()
        for _, writer in held:
            writer.close()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"overloaded"' in refused
    assert served.startswith(b"HTTP/1.1 200 ")


async def test_one_peer_does_not_take_all_connections() -> None:
    """Its connections beyond the cap are refused; when some close, there is room again."""
    limits = LIMITS.model_copy(update={"connections_per_peer_max": 5})
    async with serving(count_body, limits=limits) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert b'"code":"overloaded"' in await exchange(port)
        assert (await ask_from("127.0.0.2", port)).startswith(b"HTTP/1.1 200 ")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
    ],
)
def test_who_is_one_peer(host: str, peer: str) -> None:
    """An IPv4 address however it is written; of IPv6 what one site has."""
    assert peer_of(host) == peer


async def test_a_body_that_trickles_is_408_long_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A byte now and then keeps no connection; one that comes fast enough goes on."""
    monkeypatch.setattr("api.limits.RATE_CHECK_S", 0.2)
    limits = LIMITS.model_copy(update={"body_s_max": 30, "body_bytes_per_s_min": 1_000})
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2000\r\n\r\n"
    async with serving(count_body, limits=limits) as port:
        began = time.monotonic()
        answer = await exchange(port, head, *[piece for _ in range(9) for piece in (b"x", 0.1)])
        took_s = time.monotonic() - began
        steady = await exchange(port, head, *[p for _ in range(8) for p in (b"b" * 250, 0.1)])

    assert answer.startswith(b"HTTP/1.1 408 ") or answer == b"reset"
    assert took_s < 2
    assert steady.endswith(b"2000")


@pytest.mark.parametrize("held", ["headers", "body"])
async def test_a_neighbour_is_served_while_others_hold_connections(held: str) -> None:
    """Half requests by the hundred: all are gone at the deadline, nobody else waits for them."""
    half = {"headers": b"GET / HTTP/1.1\r\nhost: ", "body": request("POST / HTTP/1.1", b"x")[:-1]}
    limits = Limits(header_s_max=1, body_s_max=1)
    async with serving(count_body, limits=limits) as port:
        holders = [asyncio.create_task(exchange(port, half[held])) for _ in range(500)]
        await asyncio.sleep(0.2)
        p90_s = await a_neighbour_waits(port, while_running=holders)
        answers = [await holder for holder in holders]

    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 408 "}
    assert p90_s < NEIGHBOUR_S_MAX


async def a_neighbour_waits(port: int, *, while_running: list[asyncio.Task[bytes]]) -> float:
    """The 90th percentile of a neighbour's requests until the tasks ended, in seconds."""
    took_s: list[float] = []
    while not all(task.done() for task in while_running):
        began_s = time.monotonic()
        assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")
        took_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.01)
    return sorted(took_s)[len(took_s) * 9 // 10]


async def ask_from(host: str, port: int) -> bytes:
    """What a request from another address of this machine is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    writer.write(GET)
    answer = await reader.read()
    writer.close()
    return answer


MUCH = b"x" * 2**24
SLOW = Limits(answer_s_max=0.3, idle_s_max=1)


async def answer_much(scope: Scope, receive: Receive, send: Send) -> None:
    """Sixteen megabytes, at once or in parts: more than the kernel takes."""
    parts = [MUCH] if scope["path"] == "/whole" else [MUCH[: 2**20]] * 16
    headers = [(b"content-length", str(len(MUCH)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, part in enumerate(parts, 1):
        more = number < len(parts)
        await send({"type": "http.response.body", "body": part, "more_body": more})
    ENDED.append(scope["path"])


ENDED: list[str] = []


def narrow(port: int, *, asked: bytes) -> socket.socket:
    """A caller that has hardly room for what it asks for, and takes none of it."""
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect(("127.0.0.1", port))
    caller.sendall(asked)
    return caller


@pytest.mark.parametrize(("path", "head"), [("/stream", "x: y"), ("/whole", "connection: close")])
async def test_an_answer_that_nobody_takes_is_cut_off(path: str, head: str) -> None:
    """The handler ends and the connection goes; a caller who is only slow gets everything."""
    ENDED.clear()
    async with serving(answer_much, limits=SLOW) as port:
        asked = f"GET {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode()
        callers = [await asyncio.to_thread(narrow, port, asked=asked) for _ in range(5)]
        await asyncio.sleep(2.5)  # idle, and then the last of it
        assert len(ENDED) == 5
        for caller in callers:
            taken = await asyncio.to_thread(take_all, caller, pause_s=0)
            assert taken < len(MUCH)
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(asked.replace(b"x: y", b"connection: close"))
        assert await asyncio.to_thread(take_all, slow, pause_s=0.002) > len(MUCH)


def take_all(caller: socket.socket, *, pause_s: float) -> int:
    """How many bytes come until the end, so many seconds between reads."""
    taken = 0
    with caller:
        try:
            while data := caller.recv(64 * 1024):
                taken += len(data)
                time.sleep(pause_s)
        except ConnectionError:
            pass
    return taken


async def test_who_sends_ahead_and_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Requests that wait behind another have nobody to answer either: nothing is raised."""
    ahead = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n" * 5
    async with serving(answer_much, limits=SLOW) as port:
        caller = await asyncio.to_thread(narrow, port, asked=ahead)
        await asyncio.sleep(0.1)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        await asyncio.sleep(0.3)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_so_many_may_be_sent_ahead_and_no_more() -> None:
    """What fits is answered in order; beyond it the connection is closed."""
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nb"
    last = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nconnection: close\r\n\r\nb"
    async with serving(count_body, limits=LIMITS) as port:
        told = await exchange(port, one * (AHEAD_MAX - 1) + last)
        assert told.count(b"200 OK") == AHEAD_MAX
        told = await exchange(port, one * 5_000)
        assert told.count(b"200 OK") <= AHEAD_MAX
        assert told == b"reset" or b"overloaded" in told
