"""What the gateway is measured against: a bare ASGI application that keeps raw bodies.

It parses nothing and checks nothing. Bodies that wait are written with one ``writev`` and one
``fdatasync`` (group commit, in a thread, one group after another), then answered: the least that a
Python server can do for "200 means durable". uvicorn, httptools and uvloop, like the gateway.

    python -m bench.sink FD FILE
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import socket

from starlette.types import Receive, Scope, Send

from bench.serving import serve

REPLY = b'{"accepted":0,"duplicates":0,"rejected":[]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(REPLY))]
PARTS_MAX = 1_024  # IOV_MAX


class Sink:
    """Answers 200 to any request once its body is on the disk."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one body."""
        del scope
        message = await receive()
        body = message["body"]
        if message["more_body"]:
            chunks = [body]
            while message["more_body"]:
                message = await receive()
                chunks.append(message["body"])
            body = b"".join(chunks)
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        self._waiting.append((body, kept))
        if self._task is None:
            self._task = loop.create_task(self._commit())
        await kept
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": REPLY})

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting[:PARTS_MAX], self._waiting[PARTS_MAX:]
            await loop.run_in_executor(self._thread, self._write, [body for body, _ in group])
            for _, kept in group:
                if not kept.done():
                    kept.set_result(None)
        self._task = None

    def _write(self, bodies: list[bytes]) -> None:
        written = os.writev(self._file, bodies)
        if written != sum(map(len, bodies)):
            raise OSError("a short write")
        os.fdatasync(self._file)


def main() -> None:
    """Serve on an inherited listening socket until SIGTERM."""
    listener = socket(fileno=int(sys.argv[1]))
    serve(Sink(Path(sys.argv[2])), listener)


if __name__ == "__main__":
    main()
