"""The relay to the worker, over a real unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import Principal
from api.problems import problem_of, send_problem
from api.relay import Relay
from api.settings import Limits
from catalog.errors import DomainError
from tests.api.running import serving

LIMITS = Limits(body_bytes_max=100_000, relays_max=2, relay_queue_max=1)


@pytest.fixture
def path() -> Iterator[Path]:
    """A unix socket path that is short enough."""
    with tempfile.TemporaryDirectory(prefix="tm-", dir="/tmp") as directory:
        yield Path(directory) / "worker.sock"


async def worker(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was asked; some paths misbehave."""
    request = Request(scope, receive)
    if request.url.path == "/stream":
        response: Response = StreamingResponse(_slowly(), media_type="text/plain")
    elif request.url.path == "/slow":
        await asyncio.sleep(0.3)
        response = JSONResponse("slow")
    elif request.url.path == "/break":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("the worker breaks in the middle")
    else:
        content = {
            "method": request.method,
            "target": scope["raw_path"].decode() + "?" + scope["query_string"].decode(),
            "headers": dict(request.headers),
            "body": len(await request.body()),
        }
        response = JSONResponse(content, status_code=201, headers={"x-own": "1"})
    await response(scope, receive, send)


async def _slowly() -> AsyncIterator[bytes]:
    for index in range(5):
        yield f"part {index};".encode()
        await asyncio.sleep(0.01)


def gateway(relay: Relay) -> ASGIApp:
    """What the dispatcher does around a relay."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        principal = Principal(key_id="k1", scopes=frozenset({"read", "ingest"}))
        scope["state"] = {"request_id": "r-1", "principal": principal}
        try:
            await relay(scope, receive, send)
        except DomainError as error:
            await send_problem(send, problem_of(error), request_id="r-1")

    return app


@pytest.fixture
async def client(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A caller in front of a relay."""
    relay = Relay(path, limits=LIMITS)
    async with (
        serving(gateway(relay)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        yield client
    await relay.close()


async def test_a_request_arrives_as_it_was_but_for_who_asks(
    client: httpx.AsyncClient, path: Path
) -> None:
    """Method, target, headers and body; the key stays behind, forged headers too."""
    forged = {
        "authorization": "Bearer secret",
        "x-tallyman-key-id": "forged",
        "x-tallyman-scopes": "admin",
        "x-request-id": "forged",
        "accept-encoding": "identity",
        "x-kept": "yes",
    }
    async with serving(worker, path=path):
        answer = await client.put("/a%2Fb/c?x=1&y=%20", content=b"b" * 5000, headers=forged)

    seen = answer.json()
    assert (answer.status_code, answer.headers["x-own"]) == (201, "1")
    assert (seen["method"], seen["target"], seen["body"]) == ("PUT", "/a%2Fb/c?x=1&y=%20", 5000)
    assert seen["headers"]["x-tallyman-key-id"] == "k1"
    assert seen["headers"]["x-tallyman-scopes"] == "ingest,read"
    assert seen["headers"]["x-request-id"] == "r-1"
    assert seen["headers"]["x-kept"] == "yes"
    assert "authorization" not in seen["headers"]


@pytest.mark.parametrize("target", ["/a/../b/./c/..?x=../y", "/a//b", "/a%2e%2e/%zz", "/a|b'c"])
async def test_the_target_is_not_tidied_up(
    client: httpx.AsyncClient, path: Path, target: str
) -> None:
    """The worker answers for the path that was admitted, not for what a client makes of it."""
    extensions = {"target": target.encode()}
    async with serving(worker, path=path):
        answer = await client.get("/", extensions=extensions)
    assert answer.json()["target"] == (target if "?" in target else f"{target}?")


async def test_answers_stream(client: httpx.AsyncClient, path: Path) -> None:
    """The first part arrives before the last is made; a HEAD has no body."""
    async with serving(worker, path=path):
        async with client.stream("GET", "/stream") as answer:
            parts = [part async for part in answer.aiter_raw()]
        head = await client.head("/x")

    assert len(parts) > 1
    assert b"".join(parts) == b"part 0;part 1;part 2;part 3;part 4;"
    assert (head.status_code, head.content) == (201, b"")


async def test_a_body_without_length_is_bounded_while_it_streams(
    client: httpx.AsyncClient, path: Path
) -> None:
    """Chunked bodies count as they pass; the relay goes on afterwards."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"c" * 10_000

    async with serving(worker, path=path):
        fits = await client.post("/x", content=chunks(10))
        too_large = await client.post("/x", content=chunks(11))
        after = await client.get("/x")

    assert fits.json()["body"] == 100_000
    assert (too_large.status_code, too_large.json()["code"]) == (413, "body_too_large")
    assert after.status_code == 201


async def test_no_worker_is_503_and_it_is_found_when_it_is_back(
    client: httpx.AsyncClient, path: Path
) -> None:
    """Absent, then there, then gone, then there again: kept connections do not confuse it."""
    seen = [(await client.get("/x")).status_code]
    for _ in range(2):
        async with serving(worker, path=path):
            seen.append((await client.get("/x")).status_code)
        seen.append((await client.get("/x")).status_code)

    assert seen == [503, 201, 503, 201, 503]


async def test_a_worker_that_breaks_in_the_middle_breaks_the_answer(
    client: httpx.AsyncClient, path: Path
) -> None:
    """Half an answer must never look whole."""
    async with serving(worker, path=path):
        with pytest.raises(httpx.HTTPError):
            await client.get("/break")


async def test_the_queue_for_the_worker_is_bounded(client: httpx.AsyncClient, path: Path) -> None:
    """Two are relayed, one waits, the others are told to come back."""
    async with serving(worker, path=path):
        answers = await asyncio.gather(*(client.get("/slow") for _ in range(6)))

    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 200, 200, 503, 503, 503]
    assert {a.json()["code"] for a in answers if a.status_code == 503} == {"overloaded"}


async def test_a_body_that_says_it_is_too_long_is_not_waited_for(
    client: httpx.AsyncClient,
) -> None:
    """The declared length is enough to refuse it: nobody is asked for it, here without a worker."""
    answer = await client.put("/x", content=b"c" * (LIMITS.body_bytes_max + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
