"""The service with ten thousand customers under contract, and the plain applications beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from api.datadir import ServiceLock, prepare_data
from api.editing import Editor
from api.models.catalog import ApplyRequest
from api.service import ledger_socket, sql_url
from bench.ingest.servers import Served, Tallyman, running_gateway, settings_of
from bench.ledger.requests import CUSTOMERS
from bench.processes import Process, listen, python
from bench.registry import Context
from storage.redis.valkey import answers, valkey_command
from storage.sql.database import open_database
from storage.sql.statements import StatementStore

MONTHLY = {"timing": "arrears", "every_months": 1}


def catalog_document(customers: int) -> dict[str, object]:
    """A hard monthly limit that is never reached, for each of so many customers."""
    right = {"feature": "tokens", "amount": "1000000000000", "every": "month"}
    book = {"currency": "USD", "invoicing": MONTHLY, "prices": [], "entitlements": [right]}
    meter = {"event_type": "llm.completion", "aggregation": "sum", "value": "data.tokens"}
    names = [f"cust-{number}" for number in range(customers)]
    return {
        "meters": {"tokens": meter},
        "features": {"tokens": {"kind": "metered", "meter": "tokens"}},
        "pricebooks": {"plan": book},
        "customers": {name: {"name": name, "subjects": [name]} for name in names},
        "contracts": {
            f"k-{name}": {"customer": name, "pricebook": "plan", "start": "2026-01-01"}
            for name in names
        },
    }


@contextlib.contextmanager
def running_service(context: Context) -> Iterator[Tallyman]:
    """The gateway on its core; Valkey and the worker on the other. The ledger is filled."""
    settings = settings_of(context.scratch / "d")
    with ServiceLock(settings.data):
        clock = prepare_data(settings, lambda _: None)
        database = open_database(sql_url(settings))
        try:
            editor = Editor(StatementStore(database, clock, settings.zone), clock=clock)
            editor.apply(ApplyRequest(document=catalog_document(CUSTOMERS)), actor=None)
        finally:
            database.close()
    with running_gateway(
        settings, core=context.core, other_core=context.load_core, worker=True
    ) as tallyman:
        tallyman.gateway.process.wait_until(
            lambda: _decides(tallyman), what="deciding", within_s=300
        )
        yield tallyman


def _decides(tallyman: Tallyman) -> bool:
    item = {"feature": "tokens", "amount": "1"}
    asked = [{"customer": name, "items": [item]} for name in ("cust-0", f"cust-{CUSTOMERS - 1}")]
    with tallyman.client() as client:
        answer = client.post("/v1/entitlements/check", json={"checks": asked})
    return answer.status_code == 200 and all(one["allowed"] for one in answer.json()["results"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A plain application, and the Valkey of its own that ``lua`` asks."""

    served: Served
    name: str


@contextlib.contextmanager
def running_plain(context: Context, name: str) -> Iterator[Plain]:
    """``noop`` or ``lua`` on the gateway's core; its Valkey on the other."""
    socket_path = ledger_socket(context.scratch / "p")
    socket_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if name == "lua":
            argv = valkey_command(socket_path)
            log = context.scratch / "valkey.log"
            valkey = stack.enter_context(Process(argv, core=context.load_core, log=log))
            valkey.wait_until(lambda: answers(socket_path), what="a ledger")
        listener = stack.enter_context(listen())
        fd = listener.fileno()
        argv = python("-m", "bench.ledger.plain", str(fd), name, str(socket_path))
        process = Process(
            argv, core=context.core, log=context.scratch / f"{name}.log", descriptors=[fd]
        )
        stack.enter_context(process)
        yield Plain(served=Served(process=process, port=listener.getsockname()[1]), name=name)


def requests_file(context: Context) -> Path:
    """Where a round's requests are written."""
    return context.scratch / "requests"
