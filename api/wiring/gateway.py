"""A gateway: which adapter stands behind which port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from api.hot.dispatch import Dispatcher, Hot, Routes
from api.hot.document import OpenApi
from api.hot.express import Express
from api.hot.health import Check, Healthz, Readyz
from api.hot.metrics import CATALOG_REVISION, Metrics, observe_answers
from api.node import Node, Pending
from api.opening import ROUTES, NodeContext, open_node
from api.parts import Gateway
from api.places import WorkerPlaces
from api.refreshing import RefreshingRelay
from api.relay import Relay
from api.service import ledger_url, sql_url, worker_socket
from api.settings import Settings
from api.siblings import InternalApp, Siblings, node_socket
from api.snapshots import Snapshots
from catalog.clock import Clock, LogicalClock, Micros
from catalog.ids import NodeId
from storage.clock import open_clock
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.sql.database import Database, open_database
from storage.sql.grants import GrantStore
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.statements import StatementStore

_SANDBOX = ((b"tallyman-sandbox", b"true"),)


def build_gateway(settings: Settings, *, node: str) -> Gateway:
    """Everything the gateway of ``node`` runs. Nothing is opened but the database."""
    clock = open_clock(settings.data, sandbox=settings.sandbox)
    database = open_database(sql_url(settings))
    snapshots = _snapshots(settings, database, clock)
    relay = Relay(worker_socket(settings.data), limits=settings.limits)
    siblings = Siblings(settings.data, node=node, nodes=settings.nodes)
    ledger = RedisLedger(Address.parse(ledger_url(settings)))
    own = Node(clock=clock, sandbox=settings.sandbox, heartbeat_s=settings.heartbeat_ms / 1_000)
    # What is received after a catalog change is numbered after it, also when time stands still.
    logical = LogicalClock(clock)
    snapshots.subscribe(lambda catalog: logical.observe(catalog.recorded_at))
    context = NodeContext(
        settings=settings,
        name=NodeId(node),
        clock=clock,
        log_clock=logical,
        registry=NodeRegistry(database, clock),
        snapshots=snapshots,
        ledger=ledger,
        siblings=siblings,
        places=WorkerPlaces(relay),
    )

    checks = _checks(own, snapshots, relay, siblings, ledger)
    metrics = _metrics(node, relay, siblings)
    routes = Routes(_open_routes(checks, metrics, relay, metrics_public=settings.metrics_public))
    return Gateway(
        name=node,
        app=_dispatcher(routes, snapshots, relay, siblings, sandbox=settings.sandbox),
        express=_express(routes, snapshots, settings),
        internal=_internal(own, snapshots, logical),
        internal_socket=node_socket(settings.data, node),
        routes=routes,
        node=own,
        open_node=lambda: open_node(context),
        snapshots=snapshots,
        starters=(ledger.start,),
        background=(snapshots.poll, own.beat),
        closers=(_in_thread(database.close), relay.close, siblings.close, ledger.close),
    )


def _internal(own: Node, snapshots: Snapshots, logical: LogicalClock) -> InternalApp:
    async def heartbeat(not_before: Micros) -> Micros:
        logical.observe(not_before)
        return await own.heartbeat()

    return InternalApp(
        heartbeat=heartbeat, void=own.void, refresh=snapshots.refresh, ready=own.check
    )


def _dispatcher(
    routes: Routes, snapshots: Snapshots, relay: Relay, siblings: Siblings, *, sandbox: bool
) -> Dispatcher:
    return Dispatcher(
        routes=routes,
        fallback=RefreshingRelay(relay=relay, snapshots=snapshots, siblings=siblings),
        keyring=lambda: snapshots.keyring,
        look_again=snapshots.refresh_for_unknown_key,
        observe=observe_answers,
        headers=_SANDBOX if sandbox else (),
    )


def _express(routes: Routes, snapshots: Snapshots, settings: Settings) -> Express:
    return Express(
        routes=routes,
        keyring=lambda: snapshots.keyring,
        observe=observe_answers,
        head_bytes_max=settings.limits.header_bytes_max,
        headers=_SANDBOX if settings.sandbox else (),
    )


def _snapshots(settings: Settings, database: Database, clock: Clock) -> Snapshots:
    snapshots = Snapshots(
        catalog=StatementStore(database, clock, settings.zone),
        keys=KeyStore(database, clock),
        grants=GrantStore(database, clock),
        clock=clock,
        poll_s=settings.snapshot_poll_ms / 1_000,
    )
    snapshots.subscribe(lambda catalog: CATALOG_REVISION.set(catalog.revision))
    return snapshots


def _open_routes(
    checks: dict[str, Check], metrics: Metrics, relay: Relay, *, metrics_public: bool
) -> list[Hot]:
    """What a gateway answers before its log is open."""
    return [
        Hot(method="GET", path="/openapi.json", handler=OpenApi(relay.document), open=True),
        Hot(method="GET", path="/healthz", handler=Healthz(), open=True),
        Hot(method="GET", path="/readyz", handler=Readyz(checks), open=True),
        Hot(method="GET", path="/metrics", handler=metrics, open=metrics_public),
        *(Hot(method=method, path=path, handler=Pending()) for method, path in ROUTES),
    ]


def _checks(
    own: Node, snapshots: Snapshots, relay: Relay, siblings: Siblings, ledger: RedisLedger
) -> dict[str, Check]:
    async def sql() -> str | None:
        return snapshots.failure

    async def ledger_ready() -> str | None:
        return None if ledger.ready else "not reachable, or being rebuilt"

    async def worker() -> str | None:
        try:
            answer = (await relay.get("/internal/ready", timeout_s=2)).json()
        except httpx.HTTPError:
            return "not running"
        missing: dict[str, str] = answer["not_ready"]
        return "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or None

    return {
        "log": own.check,
        "sql": sql,
        "ledger": ledger_ready,
        "worker": worker,
        "nodes": siblings.check,
    }


def _metrics(node: str, relay: Relay, siblings: Siblings) -> Metrics:
    async def worker_metrics() -> str:
        return (await relay.get("/internal/metrics", timeout_s=2)).text

    return Metrics(process=node, others=lambda: {"worker": worker_metrics} | siblings.metrics())


def _in_thread(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await asyncio.to_thread(close)

    return run
