"""The real processes: they start, survive each other's death, stop in order, leave nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.priority import GIVEN_WAY, IN_BACKGROUND
from tests.e2e.harness import (
    REPOSITORY,
    Service,
    end_service,
    environment,
    is_alive,
    running_service,
    start_service,
    wait_for,
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the tests that leave it as they found it."""
    with running_service() as running:
        yield running


@pytest.fixture
def data() -> Iterator[Path]:
    """A short path for a data directory."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


def serve_refused(data: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``tallyman serve`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", "serve", "--data", data, "--port", "0", *args],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def event(identity: str) -> dict[str, object]:
    """A small event."""
    return {
        "specversion": "1.0",
        "id": identity,
        "source": "tests",
        "type": "call",
        "subject": "acme",
        "data": {"n": 1},
    }


def kill_and_wait(service: Service, name: str) -> None:
    """``kill -9`` the child whose command has ``name``; wait until another one runs."""
    [victim] = service.pids(name)
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: service.pids(name) not in ([], [victim]),
        what=f"{name} restarted",
        within_s=20,
        explain=service.logs,
    )


def test_an_event_is_accepted_once(service: Service) -> None:
    """The whole stack: post an event, post it again."""
    first = service.client.post("/v1/events", json=[event("once")])
    again = service.client.post("/v1/events", json=[event("once")])

    assert (first.status_code, first.json()) == (
        200,
        {"accepted": 1, "duplicates": 0, "rejected": []},
    )
    assert again.json() == {"accepted": 0, "duplicates": 1, "rejected": []}


def test_who_may_ask(service: Service) -> None:
    """Health needs no key; everything else does, and a key needs the scope."""
    with httpx.Client(base_url=service.url) as anybody:
        assert anybody.get("/healthz").status_code == 200
        assert anybody.get("/openapi.json").status_code == 200
        assert anybody.get("/v1/keys").status_code == 401
    made = service.client.post("/v1/keys", json={"name": "reader", "scopes": ["read"]}).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    with httpx.Client(base_url=service.url, headers=headers) as reader:
        refused = reader.post("/v1/events", json=[event("x")])
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert service.client.delete(f"/v1/keys/{made['id']}").status_code == 204
        assert reader.get("/v1/meters").status_code == 401


def test_the_worker_survives_a_kill(service: Service) -> None:
    """Without a worker relayed routes say so with 503; events and the gateway go on."""
    [gateway] = service.pids("api.gateway")
    [worker] = service.pids("api.worker")
    os.kill(worker, signal.SIGKILL)
    away = service.client.get("/v1/keys")

    assert (away.status_code, away.json()["code"]) == (503, "worker_unavailable")
    assert away.headers["retry-after"]
    assert service.client.post("/v1/events", json=[event("w")]).status_code == 200
    service.wait_ready()
    assert service.client.get("/v1/keys").status_code == 200
    assert service.pids("api.gateway") == [gateway]


def test_the_worker_gives_way_to_the_ledgers_reader(service: Service) -> None:
    """All its threads do, whenever they began, but the one that starts the reader's process."""
    [worker], [reader] = service.pids("api.worker"), service.pids("api.apart.child")

    assert set(niceness(reader)) == {0}
    # ClickHouse puts a watchman of its own before everybody, where it may.
    behind = sorted(steps for steps in niceness(worker) if steps >= 0)
    assert behind[0] == 0
    assert behind[1] == GIVEN_WAY
    assert behind[-1] == GIVEN_WAY + IN_BACKGROUND


def niceness(pid: int) -> list[int]:
    """The steps of every thread of a process, to this one's."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return [os.getpriority(os.PRIO_PROCESS, thread) - own for thread in threads]


def test_a_gateway_survives_a_kill(service: Service) -> None:
    """Its log is recovered: what was acknowledged is still a duplicate; the worker goes on."""
    assert service.client.post("/v1/events", json=[event("g")]).json()["accepted"] == 1
    [worker] = service.pids("api.worker")
    kill_and_wait(service, "api.gateway")
    service.wait_ready()

    assert service.client.post("/v1/events", json=[event("g")]).json()["duplicates"] == 1
    assert service.pids("api.worker") == [worker]


def test_valkey_survives_a_kill(service: Service) -> None:
    """It is started again, and the service becomes ready again."""
    kill_and_wait(service, "valkey")
    service.wait_ready()


def test_the_ledgers_reader_survives_a_kill(service: Service) -> None:
    """Its process is started again by the worker, which goes on, and says that it is level."""
    [worker] = service.pids("api.worker")
    kill_and_wait(service, "api.apart.child")
    assert service.client.post("/v1/events", json=[event("l")]).json()["accepted"] == 1
    service.wait_ready()

    wait_for(lambda: level(service, "ledger"), what="level", within_s=20, explain=service.logs)
    assert service.pids("api.worker") == [worker]
    assert service.post("/v1/admin/verify", {})["ok"]


def test_the_ledgers_reader_goes_with_its_worker(service: Service) -> None:
    """The next worker has one of its own; there are never two for long."""
    [reader] = service.pids("api.apart.child")
    kill_and_wait(service, "api.worker")
    wait_for(lambda: not is_alive(reader), what="gone", within_s=5)
    service.wait_ready()

    assert len(service.pids("api.apart.child")) == 1
    service.post("/v1/admin/rebuild", {"stores": ["ledger"]})
    wait_for(lambda: level(service, "ledger"), what="level", within_s=20, explain=service.logs)


def level(service: Service, store: str) -> bool:
    """Whether what is derived is level with the log."""
    stores = {each["store"]: each for each in service.get("/v1/admin/rebuild")["stores"]}
    return bool(stores[store]["level"])


def test_a_stop_finishes_what_is_in_flight(data: Path) -> None:
    """SIGTERM while a request is half sent: it is still answered, then all ends with code 0."""
    service = start_service(data)
    service.wait_ready()
    children = service.pids()
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps([event("late")]).encode()
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {service.key}\r\n".encode()
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body[:10]
        )
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        connection.sendall(body[10:])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    code = service.process.wait(20)
    end_service(service)

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b'"accepted":1' in answer
    assert code == 0, service.logs()
    assert not any(map(is_alive, children))
    assert "child_killed" not in service.logs()


def test_a_second_serve_on_the_same_data_refuses(service: Service) -> None:
    """One service a data directory; the message says who has it."""
    refused = serve_refused(service.data)

    assert refused.returncode == 1
    assert f"process {service.process.pid}" in refused.stderr


def test_two_gateways_share_one_port_and_the_supervisors_fate(data: Path) -> None:
    """A key works at both at once, /metrics joins them; ``kill -9`` of the supervisor ends all."""
    service = start_service(data, "--gateways", "2")
    try:
        service.wait_ready()
        made = service.post("/v1/keys", {"name": "all", "scopes": ["admin"]})
        headers = {"authorization": f"Bearer {made['key']}"}
        answers = [  # a connection each, so that both gateways are asked
            httpx.get(f"{service.url}/v1/meters", headers=headers).status_code for _ in range(20)
        ]
        metrics = service.client.get("/metrics").text
        children = service.pids()
    finally:
        end_service(service)  # kill -9 of the supervisor only, and a look at what is left

    assert answers == [200] * 20
    assert all(f'process="{name}"' in metrics for name in ("n1", "n2", "worker"))
    assert 'tallyman_ledger_reader_process_resident_memory_bytes{process="worker"}' in metrics
    assert len(children) == 5


def test_a_sandbox_stands_still_and_moves_forwards(data: Path) -> None:
    """Its clock is moved by hand, never back; its data never serves without --sandbox."""
    service = start_service(data, "--sandbox", "--now", "2026-01-31T23:59:00Z")
    try:
        service.wait_ready()
        standing = service.client.get("/v1/admin/clock")
        moved = service.client.post("/v1/admin/clock", json={"now": "2026-02-01T00:00:00+01:00"})
        forwards = service.client.post("/v1/admin/clock", json={"now": "2026-02-01T00:00:00Z"})
        naive = service.client.post("/v1/admin/clock", json={"now": "2026-03-01T00:00:00"})
        accepted = service.client.post("/v1/events", json=[event("s")])
    finally:
        end_service(service)

    assert standing.json() == {"now": "2026-01-31T23:59:00Z", "sandbox": True}
    assert standing.headers["tallyman-sandbox"] == "true"
    assert (moved.status_code, moved.json()["code"]) == (409, "clock_backwards")
    assert forwards.json()["now"] == "2026-02-01T00:00:00Z"
    assert naive.status_code == 422
    assert accepted.json()["accepted"] == 1
    refused = serve_refused(data)
    assert refused.returncode == 1
    assert "--sandbox" in refused.stderr


def test_real_data_never_becomes_a_sandbox(service: Service, data: Path) -> None:
    """The other way round is refused too."""
    (data / "nodes").mkdir(parents=True)

    refused = serve_refused(data, "--sandbox", "--now", "2026-01-01T00:00:00Z")

    assert refused.returncode == 1
    assert "real data" in refused.stderr
    assert "tallyman-sandbox" not in service.client.get("/healthz").headers


def test_a_generated_key_is_shown_once_and_kept_hashed(data: Path) -> None:
    """Without TALLYMAN_ADMIN_KEY one is made; a second start shows none."""
    outputs = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "serve", "--data", data, "--port", "0"],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        url = data / "run" / "url"
        wait_for(url.exists, what="listening", within_s=30)
        url.unlink()
        process.send_signal(signal.SIGTERM)
        outputs.append(process.communicate(timeout=30)[0].decode())

    key = outputs[0].partition("admin key (shown this once): ")[2].strip()
    assert key.startswith("tm_")
    assert "admin key" not in outputs[1]
    held = (path for path in data.rglob("*") if path.is_file())
    assert not any(key.encode() in path.read_bytes() for path in held)
