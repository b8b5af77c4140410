"""Starts the real service in a fresh data directory and ends it, whatever happened.

    with running_service() as service:
        service.client.post("/v1/events", json=[...])

``service.client`` has an admin key. Every process is ended and checked to be gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[2]
READY_S_MAX = 120.0  # a first start compiles the kernels, on a machine that is busy
GONE_S_MAX = 10.0


@dataclass
class Service:
    """A running ``tallyman serve``."""

    data: Path
    key: str
    process: subprocess.Popen[bytes]
    log_path: Path
    url: str = ""
    client: httpx.Client = field(default_factory=httpx.Client)

    def pids(self, name: str = "") -> list[int]:
        """The service's processes (all under the supervisor), or those whose command has name."""
        return [pid for pid, command in descendants_of(self.process.pid) if name in command]

    def get(self, path: str, **params: str | int | bool) -> Any:
        """What GET ``path`` answers; anything but 200 fails."""
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get_when_ready(self, path: str, within_s: float = 120.0, **params: str | int | bool) -> Any:
        """The same, asked again while the readers are behind: so much may have just come in."""
        answers: list[httpx.Response] = []

        def is_told() -> bool:
            answers.append(self.client.get(path, params=params))
            return answers[-1].status_code != 503 or answers[-1].json()["code"] != "readers_behind"

        wait_for(is_told, what=path, within_s=within_s, explain=self.explain)
        assert answers[-1].status_code == 200, answers[-1].text
        return answers[-1].json()

    def post(self, path: str, content: object, **params: str | int | bool) -> Any:
        """What POST ``path`` answers; anything but 2xx fails."""
        answer = self.client.post(path, json=content, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def logs(self) -> str:
        """What all its processes wrote."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, *, within_s: float = READY_S_MAX) -> None:
        """Wait until /readyz is 200."""
        wait_for(self._is_ready, what="ready", within_s=within_s, explain=self.explain)

    def stop(self) -> int:
        """Stop it like an operator would; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def explain(self) -> str:
        """What to show when something did not happen."""
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/readyz").text + "\n" + self.logs()[-6000:]
        return self.logs()[-6000:]

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.logs()}")
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False


def environment(**settings: str) -> dict[str, str]:
    """The environment for a service or a command: this one's, without its TALLYMAN_*."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALLYMAN_")}
    return inherited | {f"TALLYMAN_{name.upper()}": value for name, value in settings.items()}


def cli(service: Service, *args: str) -> str:
    """Run ``tallyman ARGS`` against ``service``; answers what it printed, fails if it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", *args],
        cwd=REPOSITORY,
        env=environment(url=service.url, key=service.key) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start_service(
    data: Path, *args: str, key: str | None = None, settings: Mapping[str, str] | None = None
) -> Service:
    """Start ``tallyman serve`` on ``data`` and a free port; does not wait until it is ready."""
    key = key or secrets.token_hex(20)
    log_path = data.parent / f"{data.name}-{secrets.token_hex(3)}.log"
    run_url = data / "run" / "url"
    run_url.unlink(missing_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "serve", "--data", data, "--port", "0", *args],
            cwd=REPOSITORY,
            env=environment(admin_key=key, **(settings or {})),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    service = Service(data=data, key=key, process=process, log_path=log_path)

    def announced() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}:\n{service.logs()}")
        return run_url.exists() and run_url.read_text().endswith("\n")

    try:
        wait_for(announced, what="listening", within_s=READY_S_MAX, explain=service.logs)
    except BaseException:
        process.kill()
        process.wait()
        raise
    service.url = run_url.read_text().strip()
    service.client = httpx.Client(
        base_url=service.url, headers={"authorization": f"Bearer {key}"}, timeout=30
    )
    return service


@contextlib.contextmanager
def running_service(
    *args: str, data: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """A ready service; at the end it is killed and everything of it must be gone."""
    # Not pytest's tmp_path: its names are too long for unix sockets.
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    service = start_service(data or parent / "d", *args, settings=settings)
    try:
        service.wait_ready()
        yield service
    finally:
        end_service(service)
        shutil.rmtree(parent, ignore_errors=True)


def end_service(service: Service) -> None:
    """Kill what is left of it and check that nothing stays behind."""
    pids = service.pids()
    service.client.close()
    service.process.kill()
    service.process.wait()
    wait_for(lambda: not any(map(is_alive, pids)), what=f"{pids} gone", within_s=GONE_S_MAX)


def wait_for(
    happened: Callable[[], bool],
    *,
    what: str,
    within_s: float,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Poll until ``happened``; fail with an explanation when it takes too long."""
    deadline = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not {what} within {within_s} s\n{explain()}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def descendants_of(parent: int) -> list[tuple[int, str]]:
    """The living processes under a process with their commands."""
    found = children_of(parent)
    return found + [below for pid, _ in found for below in descendants_of(pid)]


def children_of(parent: int) -> list[tuple[int, str]]:
    """The living children of a process with their commands."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append((int(entry.name), command))
    return found
