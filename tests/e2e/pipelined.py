"""Many requests on one connection, sent ahead of their answers: a cheap client that sends a lot."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import httptools

CHUNK_BYTES = 1 << 16
TRIES = 3
"""A request whose connection ends without an answer so often has none."""


class Answer(NamedTuple):
    """A status and the whole body."""

    status: int
    body: bytes


class Pipelined:
    """A connection that is made again when the other side has closed it."""

    def __init__(self, host: str, *, timeout_s: float = 60) -> None:
        name, _, port = host.partition(":")
        self._address = (name, int(port))
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._answers: list[Answer] = []
        self._parts: list[bytes] = []

    def ask(self, requests: Sequence[bytes]) -> list[Answer]:
        """The answers to ``requests``, in order. What a closed connection left is sent again."""
        self._answers, tries = [], 0
        while len(self._answers) < len(requests):
            before = len(self._answers)
            with suppress(ConnectionError):
                self._exchange(requests[before:], len(requests))
            tries = 0 if len(self._answers) > before else tries + 1
            assert tries < TRIES, f"no answer to {requests[before][:500]!r}"
        return self._answers

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def on_message_begin(self) -> None:
        """An answer starts (called by the parser)."""
        self._parts = []

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self._answers.append(Answer(self._parser.get_status_code(), b"".join(self._parts)))

    def _exchange(self, requests: Sequence[bytes], wanted: int) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._socket.sendall(b"".join(requests))
            while len(self._answers) < wanted:
                data = self._socket.recv(CHUNK_BYTES)
                if not data:
                    self.close()
                    return
                self._parser.feed_data(data)
        except BaseException:
            self.close()
            raise


def written(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: test", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
