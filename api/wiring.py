"""The composition root: which adapter stands behind which port, for each kind of process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from api.freshness import SocketHeartbeats
from api.gateway import Gateway, RefreshingRelay
from api.hot.dispatch import Dispatcher, Hot, Routes
from api.hot.health import Healthz, Readyz
from api.hot.metrics import CATALOG_REVISION, Metrics, Observer
from api.node import Node, OpenNode, Pending
from api.relay import Relay
from api.service import sql_url
from api.settings import Settings
from api.siblings import InternalApp, Siblings, node_socket
from api.snapshots import Snapshots
from api.worker import Worker
from api.datadir import instance_of
import polars as pl
from catalog.events import RECORDS
from catalog.clock import SECOND_US, Clock
from catalog.ids import NodeId
from storage.clock import FileClock, open_clock
from storage.log.home import LogLimits
from storage.log.node_log import NodeLog
from storage.sql.database import Database, open_database
from storage.sql.keys import KeyStore
from storage.sql.nodes import NodeRegistry
from storage.sql.statements import StatementStore

# Hot routes that the node's log serves. Until it is open they answer 503.
NODE_ROUTES = (("POST", "/v1/events"), ("POST", "/v1/events/void"))


def worker_socket(data: Path) -> Path:
    """Where the worker listens for the gateways."""
    return data / "run" / "worker.sock"


def build_gateway(settings: Settings, *, node: str) -> Gateway:
    """Everything the gateway of ``node`` runs. Nothing is opened but the database."""
    clock = open_clock(settings.data, sandbox=settings.sandbox)
    database = open_database(sql_url(settings))
    snapshots = _snapshots(settings, database, clock)
    relay = Relay(worker_socket(settings.data), limits=settings.limits)
    siblings = Siblings(settings.data, node=node, nodes=settings.nodes)
    own = Node(clock=clock, sandbox=settings.sandbox, heartbeat_s=settings.heartbeat_ms / 1_000)
    routes = Routes(_open_routes(settings, node, snapshots, relay, siblings, own))
    app = Dispatcher(
        routes=routes,
        fallback=RefreshingRelay(relay=relay, snapshots=snapshots, siblings=siblings),
        keyring=lambda: snapshots.keyring,
        look_again=snapshots.refresh_for_unknown_key,
        observe=Observer(),
        headers=((b"tallyman-sandbox", b"true"),) if settings.sandbox else (),
    )
    internal = InternalApp(heartbeat=own.heartbeat, refresh=snapshots.refresh, ready=own.check)
    return Gateway(
        name=node,
        app=app,
        internal=internal,
        internal_socket=node_socket(settings.data, node),
        routes=routes,
        node=own,
        open_node=lambda: open_node(settings, NodeId(node), clock, database, snapshots),
        snapshots=snapshots,
        background=(snapshots.poll, own.beat),
        closers=(_in_thread(database.close), relay.close, siblings.close),
    )


def build_worker(settings: Settings) -> Worker:
    """Everything the worker runs."""
    from api.hot.documentation import hot_paths  # noqa: PLC0415
    from api.routes import admin, keys  # noqa: PLC0415  (gateways need no FastAPI)

    clock = open_clock(settings.data, sandbox=settings.sandbox)
    database = open_database(sql_url(settings))
    statements = StatementStore(database, clock, settings.zone)
    key_store = KeyStore(database, clock)
    heartbeats = SocketHeartbeats(settings.data / "run")

    routers = (
        keys.build_router(keys=key_store, clock=clock),
        admin.build_router(
            clock=clock if isinstance(clock, FileClock) else None, heartbeat=heartbeats
        ),
    )

    def check_sql() -> str | None:
        statements.revision()
        return None

    return Worker(
        socket=worker_socket(settings.data),
        routers=routers,
        checks={"sql": check_sql},
        hot_paths=hot_paths(),
        closers=(database.close,),
    )


def open_node(
    settings: Settings, node: NodeId, clock: Clock, database: Database, snapshots: Snapshots
) -> Callable[[], Awaitable[OpenNode]]:
    """Recover the log of ``node`` (blocking); what it answers makes the pipeline on the loop."""
    log = NodeLog.open(
        settings.data / "nodes" / node,
        node=node,
        clock=clock,
        limits=LogLimits(
            hot_bytes_max=settings.log.hot_bytes_max,
            hot_age_us_max=int(settings.log.hot_age_s_max * SECOND_US),
        ),
    )
    NodeRegistry(database, clock).register(node, f"{instance_of(settings.data)}/{node}")

    class Standin:
        async def heartbeat(self):
            records = pl.DataFrame(
                {name: [None] for name in RECORDS if name not in ("seq", "received_at")},
                schema={k: v for k, v in RECORDS.items() if k not in ("seq", "received_at")},
            ).with_columns(kind=pl.lit(6, pl.UInt8))
            appended = log.append(records)
            log.sync()
            return appended.received_at

    async def make() -> OpenNode:
        async def close():
            log.close()

        return OpenNode(
            pipeline=Standin(), last_received_at=lambda: log.last_received_at, handlers={}, close=close
        )

    return make


def _snapshots(settings: Settings, database: Database, clock: Clock) -> Snapshots:
    snapshots = Snapshots(
        catalog=StatementStore(database, clock, settings.zone),
        keys=KeyStore(database, clock),
        clock=clock,
        poll_s=settings.snapshot_poll_ms / 1_000,
    )
    snapshots.subscribe(lambda catalog: CATALOG_REVISION.set(catalog.revision))
    return snapshots


def _open_routes(
    settings: Settings,
    node: str,
    snapshots: Snapshots,
    relay: Relay,
    siblings: Siblings,
    own: Node,
) -> list[Hot]:
    """What a gateway answers before its log is open."""

    async def sql() -> str | None:
        return snapshots.failure

    readyz = Readyz(
        {"log": own.check, "sql": sql, "worker": _worker_check(relay), "nodes": siblings.check}
    )

    async def worker_metrics() -> str:
        return (await relay.get("/internal/metrics", timeout_s=2)).text

    metrics = Metrics(process=node, others=lambda: {"worker": worker_metrics} | siblings.metrics())
    return [
        Hot(method="GET", path="/healthz", handler=Healthz(), open=True),
        Hot(method="GET", path="/readyz", handler=readyz, open=True),
        Hot(method="GET", path="/metrics", handler=metrics, open=settings.metrics_public),
        *(Hot(method=method, path=path, handler=Pending()) for method, path in NODE_ROUTES),
    ]


def _worker_check(relay: Relay) -> Callable[[], Awaitable[str | None]]:
    async def check() -> str | None:
        try:
            answer = (await relay.get("/internal/ready", timeout_s=2)).json()
        except httpx.HTTPError:
            return "not running"
        missing: dict[str, str] = answer["not_ready"]
        return "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or None

    return check


def _in_thread(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await asyncio.to_thread(close)

    return run
