"""Both sides of an ingest benchmark: the gateway as it is served, and the sink."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.datadir import ServiceLock, prepare_data
from api.editing import Editor
from api.models.catalog import ApplyRequest
from api.service import ensure_first_key, ledger_socket, sql_url
from api.settings import Settings, child_environment
from bench.load.events import CATALOG
from bench.processes import Process, listen, python
from storage.redis.valkey import answers, valkey_command
from storage.sql.database import open_database
from storage.sql.statements import StatementStore

NODE = "n1"
KEY = "bench-" + "k" * 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server."""

    process: Process
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyman:
    """The service's processes, each started here so that each can be pinned and paused.

    ``worker`` is None where the gateway is measured alone.
    """

    data: Path
    gateway: Served
    worker: Process | None

    @property
    def node_directory(self) -> Path:
        """The log of the one node."""
        return self.data / "nodes" / NODE

    def client(self) -> httpx.Client:
        """A client with the admin key."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.gateway.port}", headers=headers, timeout=60
        )


def settings_of(data: Path, **given: object) -> Settings:
    """The default settings, on ``data``."""
    return Settings(data=data, admin_key=KEY, log_level="warning", **given)  # type: ignore[arg-type]


def prepare(settings: Settings) -> None:
    """A data directory with a key and a catalog, as a first start and ``apply`` leave it."""
    clock = prepare_data(settings, lambda _: None)
    ensure_first_key(settings, clock)
    database = open_database(sql_url(settings))
    try:
        editor = Editor(StatementStore(database, clock, settings.zone), clock=clock)
        editor.apply(ApplyRequest(document=CATALOG), actor=None)
    finally:
        database.close()


@contextlib.contextmanager
def running_gateway(
    settings: Settings, *, core: int, other_core: int, worker: bool = False
) -> Iterator[Tallyman]:
    """The gateway on ``core``; Valkey, and with ``worker`` the worker, on the other one."""
    data = settings.data
    environment = child_environment(settings)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(ServiceLock(data))
        prepare(settings)

        def start(argv: list[str], on: int, *descriptors: int) -> Process:
            log = data / "bench.log"
            process = Process(
                argv,
                core=on,
                log=log,
                environment=environment,
                descriptors=(lock.descriptor, *descriptors),
            )
            return stack.enter_context(process)

        valkey = start(valkey_command(ledger_socket(data)), other_core)
        valkey.wait_until(lambda: answers(ledger_socket(data)), what="a ledger")
        listener = stack.enter_context(listen())
        argv = python("-m", "api.gateway", NODE, str(listener.fileno()))
        gateway = start(argv, core, listener.fileno())
        port = listener.getsockname()[1]
        tallyman = Tallyman(
            data=data,
            gateway=Served(process=gateway, port=port),
            worker=start(python("-m", "api.worker"), other_core) if worker else None,
        )
        gateway.wait_until(_takes_events(tallyman), what="taking events", within_s=300)
        yield tallyman


def _takes_events(tallyman: Tallyman) -> Callable[[], bool]:
    def probe() -> bool:
        try:
            with tallyman.client() as client:
                return client.post("/v1/events", json=[]).status_code == 200
        except httpx.TransportError:
            return False

    return probe


@contextlib.contextmanager
def running_sink(path: Path, *, core: int) -> Iterator[Served]:
    """The sink, writing to ``path``."""
    with listen() as listener:
        argv = python("-m", "bench.sink", str(listener.fileno()), str(path))
        with Process(
            argv, core=core, log=path.with_suffix(".log"), descriptors=[listener.fileno()]
        ) as process:
            yield Served(process=process, port=listener.getsockname()[1])
