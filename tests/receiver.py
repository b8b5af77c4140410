"""A webhook receiver on loopback that does as it is told: takes, refuses, redirects, stalls."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What arrived, and how the next ones are answered (the last answer stays)."""

    url: str = ""
    answers: list[str] = field(default_factory=lambda: ["200"])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def receiving(*answers: str, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver, over TLS if given; answers a status, ``drip``, ``flood``, ``stall``, ``drop``."""
    receiver = Receiver()
    receiver.answers = list(answers) or ["200"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.got.append((headers, body))
            kept = len(receiver.answers) == 1
            answer = receiver.answers[0] if kept else receiver.answers.pop(0)
            self.answer(answer)

        def answer(self, how: str) -> None:
            self.close_connection = True
            if how == "drop":
                return
            if how == "stall":
                receiver.released.wait(20)
                return
            self.send_response(int(how) if how.isdecimal() else 200)
            if how.startswith("30"):
                self.send_header("location", receiver.url + "elsewhere")
            self.send_header("connection", "close")
            self.end_headers()
            try:
                if how == "drip":
                    while not receiver.released.wait(0.05):
                        self.wfile.write(b".")
                        self.wfile.flush()
                if how == "flood":
                    for _ in range(1_000):
                        self.wfile.write(b"." * 65_536)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
