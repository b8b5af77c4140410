"""A process that has imported the service once and forks gateways from it: a start in a moment.

Importing takes seconds, and a campaign of kills is made of starts. A fork of this process runs
``api.gateway.main()`` as ``python -m api.gateway`` would, with its own memory, descriptors and
locks. Commands come as JSON lines; each is answered with the pid of the fork.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[2]
SEAL_PAUSE_S = 0.02


class Zygote:
    """Its parent's side. All forks end with it. Used with ``with``."""

    def __init__(self, *descriptors: int) -> None:
        """Forks inherit ``descriptors`` (listening sockets) under the same numbers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            text=True,
        )

    def fork(
        self, *argv: str, environment: Mapping[str, str], log: Path, stopped: bool = False
    ) -> int:
        """Run ``gateway NODE FD`` or ``sealer DIRECTORY NODE``; answers the pid.

        ``stopped`` holds it before it does anything, until SIGCONT, for a tracer to attach.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"argv": argv, "environment": dict(environment), "log": str(log)}
        self._process.stdin.write(json.dumps(order | {"stopped": stopped}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # the end of its input is the end of it


def _serve() -> None:
    import api.logs
    import api.opening
    import api.wiring.gateway  # noqa: F401  (so that forks need not)
    from ingest.warm import warm_up

    warm_up()  # loads compiled code, starts no thread that a fork would miss
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to reap the forks
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)


def _become(order: Mapping[str, object]) -> None:
    """Be the process that was ordered; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    code = 1
    try:
        os.environ.update(order["environment"])  # type: ignore[arg-type,call-overload]
        kind, *arguments = order["argv"]  # type: ignore[misc]
        {"gateway": _gateway, "sealer": _sealer}[kind](*arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _gateway(node: str, descriptor: str) -> None:
    from api.gateway import main

    sys.argv = ["api.gateway", node, descriptor]
    main()


def _sealer(directory: str, node: str) -> None:
    """What the worker's sealing reader does, for ever, in a process that can be killed."""
    from catalog.ids import NodeId
    from storage.log.follower import LogFollower

    follower = LogFollower(Path(directory), NodeId(node))
    while True:
        follower.seal_closed()
        time.sleep(SEAL_PAUSE_S)


if __name__ == "__main__":
    _serve()
