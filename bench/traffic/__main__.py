"""``python -m bench.traffic``: a service of its own on a free port, and the load against it.

Whatever follows is for locust: ``python -m bench.traffic -u 60 -t 1m --report out``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from bench.gate import BenchFailed
from bench.processes import REPOSITORY, die_with_parent, python
from bench.traffic.run import KEY_VARIABLE

LOCUSTFILE = REPOSITORY / "bench" / "locustfile.py"
DEFAULTS = ("-u", "60", "-r", "20", "-t", "60s")
READY_S_MAX = 180.0
STOP_S_MAX = 40.0


class Started:
    """``tallyman serve`` as this process's child. ``url`` and ``key`` are how to reach it."""

    def __init__(self, process: subprocess.Popen[bytes], *, data: Path, key: str) -> None:
        self.process = process
        self.data = data
        self.key = key
        self.url = ""

    def wait_ready(self, *, within_s: float = READY_S_MAX) -> None:
        """Wait until it serves.

        Raises:
            BenchFailed: it ended, or takes too long.
        """
        deadline_s = time.monotonic() + within_s
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise BenchFailed(f"the service is not ready:\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return (self.data.parent / "service.log").read_text(errors="replace")[-4_000:]

    def _is_ready(self) -> bool:
        announced = self.data / "run" / "url"
        if not announced.exists():
            return False
        self.url = announced.read_text().strip()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False


@contextlib.contextmanager
def own_service(*args: str, settings: Mapping[str, str] | None = None) -> Iterator[Started]:
    """A ready service in a temporary directory, ended and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="tml-"))
    key = secrets.token_hex(20)
    inherited = {name: said for name, said in os.environ.items() if "TALLYMAN_" not in name}
    environment = inherited | {"TALLYMAN_ADMIN_KEY": key} | dict(settings or {})
    argv = python("-m", "api.cli.main", "serve", "--data", str(home / "d"), "--port", "0", *args)
    with (home / "service.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    try:
        started = Started(process, data=home / "d", key=key)
        started.wait_ready()
        yield started
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def locust_command(host: str, *args: str) -> list[str]:
    """Locust, headless, against ``host``."""
    return python("-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", host, *args)


def locust_environment(key: str) -> dict[str, str]:
    """This process's environment with the key locust is to use."""
    return {**os.environ, KEY_VARIABLE: key}


def main() -> int:
    """Run it; answers locust's exit code."""
    with own_service() as service:
        argv = locust_command(service.url, *DEFAULTS, "--only-summary", *sys.argv[1:])
        return subprocess.run(argv, env=locust_environment(service.key), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
