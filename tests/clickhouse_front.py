"""A small front over chDB that speaks ClickHouse's HTTP interface, and can misbehave on demand.

A ClickHouse server cannot be installed here, so what goes over HTTP is tested against this. It
runs as a process of its own (one process opens one chDB path):
``python -m tests.clickhouse_front PATH [PORT]`` prints its port. ``POST /misbehave?mode=…&count=n``
makes the next n inserts (``down``: the next n requests) go wrong.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import json
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

TRANSPORT = {
    "query", "database", "query_id", "session_id", "session_timeout", "compress", "decompress",
    "wait_end_of_query", "client_protocol_version", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "enable_http_compression", "default_format",
}  # fmt: skip


class Mode(StrEnum):
    """How the front goes wrong."""

    WELL = "well"
    DOWN = "down"
    """Closes the connection without doing anything."""
    REFUSE = "refuse"
    """Answers an insert with an error and keeps nothing of it."""
    LOSE_ANSWER = "lose_answer"
    """Does the insert, then closes the connection without an answer."""
    LOSE_ANSWER_SLOWLY = "lose_answer_slowly"
    """Closes the connection at once and does the insert half a second later."""
    SLOW = "slow"
    """Does the insert after two seconds."""


class Engine:
    """chDB, one handle a request, and what is wrong with the front at the moment."""

    def __init__(self, path: str) -> None:
        import chdb

        self.path = path
        self._connect = chdb.connect
        self._first = chdb.connect(path)
        self.mode, self.count = Mode.WELL, 0
        self.running: dict[str, str] = {}
        self._lock = threading.Lock()

    def takes(self, *, insert: bool) -> Mode:
        """What goes wrong with this request."""
        with self._lock:
            if self.count <= 0 or (self.mode is not Mode.DOWN and not insert):
                return Mode.WELL
            self.count -= 1
            return self.mode

    def run(self, sql: str, params: dict[str, str], files: dict[str, bytes], body: bytes) -> bytes:
        """Run one request on a handle of its own."""
        listed = ", ".join(f"'{name}'" for name in self.running.values()) or "''"
        sql = sql.replace("system.processes", f"(SELECT arrayJoin([{listed}]) AS query_id)")
        query_params = {k[6:]: v for k, v in params.items() if k.startswith("param_")}
        handle = self._connect(self.path)
        try:
            if database := params.get("database"):
                handle.query(f"USE `{database}`", "TabSeparated")
            for key, value in params.items():
                if _is_setting(key, files):
                    handle.query(f"SET {key} = '{value}'", "TabSeparated")
            with tempfile.TemporaryDirectory() as scratch:
                for name, content in files.items():
                    structure, fmt = params[f"{name}_structure"], params[f"{name}_format"]
                    handle.query(f"CREATE TEMPORARY TABLE {name} ({structure})", "TabSeparated")
                    sent = Path(scratch) / name
                    sent.write_bytes(content)
                    handle.query(f"INSERT INTO {name} FROM INFILE '{sent}' FORMAT {fmt}")
                if body:
                    head, _, fmt = sql.rpartition(" FORMAT ")
                    sent = Path(scratch) / "body"
                    sent.write_bytes(body)
                    sql = f"{head} FROM INFILE '{sent}' FORMAT {fmt}"
                return handle.query(sql, "TabSeparated", params=query_params).bytes() or b""
        finally:
            handle.close()


def _is_setting(key: str, files: dict[str, bytes]) -> bool:
    """Whether a parameter of the address is a setting, not transport, a value or a file's form."""
    if key in TRANSPORT or key.startswith("param_"):
        return False
    return key.removesuffix("_format").removesuffix("_structure") not in files


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer ``/ping`` and queries in the address."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Run the query in the address or the body."""
        self._answer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().strip(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == "/misbehave":
            self.engine.mode, self.engine.count = Mode(params["mode"]), int(params["count"])
            self._send(200, b"")
            return
        sql, files, data = self._split(params, body)
        insert = sql.startswith("INSERT")
        mode = self.engine.takes(insert=insert)
        if mode is Mode.DOWN:
            self.close_connection = True
            return
        if mode is Mode.REFUSE:
            self._send(500, b"Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)", code=252)
            return
        self._run(mode, sql, params, files, data)

    def _run(self, mode: Mode, sql: str, params: dict, files: dict, data: bytes) -> None:
        running = uuid.uuid4().hex
        self.engine.running[running] = params.get("query_id", "")
        try:
            if mode is Mode.LOSE_ANSWER_SLOWLY:
                self.close_connection = True
                self.connection.shutdown(2)
                time.sleep(0.5)
            if mode is Mode.SLOW:
                time.sleep(2)
            status, code, content = 200, None, self.engine.run(sql, params, files, data)
        except Exception as error:  # noqa: BLE001 - whatever chDB says is the answer
            text = str(error)
            digits = text.partition("Code: ")[2].partition(".")[0]
            status, code, content = 500, int(digits or 1), text.encode()
        finally:
            del self.engine.running[running]
        if mode is Mode.LOSE_ANSWER:
            self.close_connection = True
        elif mode is not Mode.LOSE_ANSWER_SLOWLY:
            self._send(status, content, code=code)

    def _split(self, params: dict[str, str], body: bytes) -> tuple[str, dict[str, bytes], bytes]:
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            head = f"Content-Type: {kind}\r\n\r\n".encode()
            message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
            parts = {
                str(part.get_param("name", header="content-disposition")): part.get_payload(
                    decode=True
                )
                for part in message.iter_parts()
            }
            return parts.pop("query", params.get("query", "").encode()).decode(), parts, b""
        if "query" in params:
            return params["query"].strip(), {}, body
        head, newline, rest = body.partition(b"\n")
        if head.startswith(b"INSERT"):
            return head.decode().strip(), {}, rest
        return (head + newline + rest).decode(), {}, b""

    def _send(self, status: int, content: bytes, *, code: int | None = None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        elif content:
            self.send_header("X-ClickHouse-Format", "TabSeparated")
        self.send_header("X-ClickHouse-Summary", json.dumps({}))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Front:
    """The front's process, as a test holds it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def misbehave(self, mode: Mode, *, count: int = 1) -> None:
        """Make the next ``count`` inserts (``down``: requests) go wrong."""
        address = f"{self.url}/misbehave?mode={mode}&count={count}"
        with urllib.request.urlopen(address, data=b"", timeout=10):
            pass


@contextlib.contextmanager
def front(path: Path) -> Iterator[Front]:
    """A front over the chDB at ``path``, ended with the block."""
    command = [sys.executable, "-m", "tests.clickhouse_front", str(path)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], 60)
            assert ready, "the front did not start"
            yield Front(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def main() -> None:
    """Serve until killed."""
    Handler.engine = Engine(sys.argv[1])
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
