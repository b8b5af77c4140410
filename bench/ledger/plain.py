"""What decisions are measured against: minimal ASGI applications.

``noop`` reads the body and answers: the least that a Python server can do. ``lua`` is what one
writes first: parse, one ``EVALSHA`` a request through redis-py, answer. Nothing of it is durable,
none of its keys make a retry safe. uvicorn, httptools and uvloop, like the gateway.

    python -m bench.ledger.plain FD noop|lua SOCKET
"""

from __future__ import annotations

import sys
from socket import socket

import orjson
import redis.asyncio as redis
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.serving import serve

CHECK = (
    b'{"results":[{"customer":"cust-1234","allowed":true,"items":'
    b'[{"feature":"tokens","allowed":true,"balance":"999999999","reason":null}]}]}'
)
SCRIPT = """
local limit = tonumber(redis.call('HGET', KEYS[1], 'limit') or ARGV[2])
local used = tonumber(redis.call('HGET', KEYS[1], 'used') or '0')
local left = limit - used - tonumber(ARGV[1])
if left < 0 then return {0, limit - used} end
if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[1], 'used', ARGV[1]) end
return {1, left}
"""
LIMIT = 10**12


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def _answer(send: Send, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def noop(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any request alike."""
    del scope
    await _body(receive)
    await _answer(send, CHECK)


class OneCall:
    """One script call a request: a check, or a consume that is forgotten in a crash."""

    def __init__(self, path: str) -> None:
        pool = redis.ConnectionPool(
            connection_class=redis.UnixDomainSocketConnection, path=path, max_connections=128
        )
        self._client = redis.Redis(connection_pool=pool)
        self._sha: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        body = orjson.loads(await _body(receive))
        if self._sha is None:
            self._sha = await self._client.script_load(SCRIPT)
        consumes = scope["path"].endswith("/consume")
        asked = body if consumes else body["checks"][0]
        customer = scope["path"].split("/")[3] if consumes else asked["customer"]
        item = asked["items"][0]
        key = f"plain:{customer}:{item['feature']}"
        arguments = (key, item["amount"], LIMIT, int(consumes))
        allowed, left = await self._client.evalsha(self._sha, 1, *arguments)
        shown = {"feature": item["feature"], "allowed": bool(allowed), "balance": str(left)}
        answer = {"allowed": bool(allowed), "items": [shown | {"reason": None}]}
        if not consumes:
            answer = {"results": [{"customer": customer, **answer}]}
        await _answer(send, orjson.dumps(answer))


def main() -> None:
    """Serve on an inherited listening socket until SIGTERM."""
    listener = socket(fileno=int(sys.argv[1]))
    app: ASGIApp = noop if sys.argv[2] == "noop" else OneCall(sys.argv[3])
    serve(app, listener)


if __name__ == "__main__":
    main()
