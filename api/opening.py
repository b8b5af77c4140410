"""Opening a node: its log, its index, the group commit, and the hot routes over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from api.datadir import instance_of
from api.hot.checks import CheckEntitlements
from api.hot.counts import counts
from api.hot.entitlements import PATHS, ConsumeEntitlements, ReadEntitlements
from api.hot.events import IngestEvents, IngestRoute, VoidEvents
from api.hot.reservations import PATHS as RESERVATION_PATHS
from api.hot.reservations import ReleaseEntitlements, ReserveEntitlements, SettleEntitlements
from api.hot.usage_sink import LogSink
from api.node import OpenNode
from api.settings import Settings
from api.snapshots import Snapshots
from api.voiding import OtherLogs, Places, Voiding
from catalog.clock import SECOND_US, Clock, Micros
from catalog.ids import FeatureId, NodeId
from catalog.snapshot import Catalog
from entitlements.decisions import Decisions
from entitlements.ports import Ledger
from entitlements.reservations import Reservations
from entitlements.schedules import CurrentSchedules
from ingest.batch import IngestLimits
from ingest.commit import Ingestor
from ingest.scan import BodyReader
from ingest.values import IngestRules
from ingest.warm import warm_up
from storage.log.home import LogLimits
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from storage.sql.nodes import NodeRegistry

EVENTS, VOID = ("POST", "/v1/events"), ("POST", "/v1/events/void")
ROUTES = (EVENTS, VOID, *PATHS.values(), *RESERVATION_PATHS.values())
"""(method, path) of the hot routes that need the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """What a node's parts are made with.

    ``log_clock`` numbers records: it never falls behind a catalog that was read.
    """

    settings: Settings
    name: NodeId
    clock: Clock
    log_clock: Clock
    registry: NodeRegistry
    snapshots: Snapshots
    ledger: Ledger
    siblings: OtherLogs
    places: Places


class CurrentRules:
    """What events are checked against: follows the catalog, built once a revision."""

    def __init__(self) -> None:
        self._rules = IngestRules()

    def follow(self, catalog: Catalog) -> None:
        """The catalog is this one from now on."""
        self._rules = IngestRules.from_catalog(catalog)

    def __call__(self) -> IngestRules:
        """The rules now."""
        return self._rules


def open_node(context: NodeContext) -> Callable[[], Awaitable[OpenNode]]:
    """Recover log and index (blocking); what it answers makes the rest on the event loop.

    Raises:
        LogLocked, LogCorrupt, LogTooNew, LogUnavailable: the log cannot be used.
        NodeTaken: the node's name belongs to another data directory.
    """
    settings = context.settings
    warm_up()
    context.registry.register(context.name, f"{instance_of(settings.data)}/{context.name}")
    log = NodeLog.open(
        settings.data / "nodes" / context.name,
        node=context.name,
        clock=context.log_clock,
        limits=LogLimits(
            hot_bytes_max=settings.log.hot_bytes_max,
            hot_age_us_max=settings.log.hot_age_s_max * SECOND_US,
        ),
    )
    try:
        index = DiskIdentityIndex.open(
            log.index_directory, log, window_days=settings.log.window_days
        )
    except BaseException:
        log.close()
        raise

    async def make() -> OpenNode:
        return _make(context, log, index)

    return make


def _make(context: NodeContext, log: NodeLog, index: DiskIdentityIndex) -> OpenNode:
    limits = ingest_limits(context.settings)
    rules = CurrentRules()
    context.snapshots.subscribe(rules.follow)

    def body_reader() -> BodyReader:
        return BodyReader(limits=limits, rules=rules, clock=context.clock)

    ingestor = Ingestor(
        log=log,
        index=index,
        reader=log,
        bodies=body_reader(),
        limits=limits,
        between=log.roll_if_due,
        synced=counts.synced,
    )
    counts.queue = ingestor.waiting

    async def close() -> None:
        await ingestor.close()
        index.close()
        log.close()

    return OpenNode(
        pipeline=ingestor,
        last_received_at=lambda: log.last_received_at,
        handlers=_handlers(
            context, ingestor, limits, body_reader, logged=lambda: log.last_received_at
        ),
        close=close,
    )


def _handlers(
    context: NodeContext,
    ingestor: Ingestor,
    limits: IngestLimits,
    body_reader: Callable[[], BodyReader],
    *,
    logged: Callable[[], Micros],
) -> dict[tuple[str, str], ASGIApp]:
    route = IngestRoute.build(ingestor, limits)
    return {
        EVENTS: IngestEvents(route, body_reader),
        VOID: VoidEvents(
            route, Voiding(own=ingestor, others=context.siblings, places=context.places)
        ),
        **_entitlement_handlers(context, ingestor, logged=logged),
    }


def _entitlement_handlers(
    context: NodeContext, ingestor: Ingestor, *, logged: Callable[[], Micros]
) -> dict[tuple[str, str], ASGIApp]:
    schedules = CurrentSchedules(
        lambda: context.snapshots.catalog, lambda: context.snapshots.grants
    )
    ledger, clock = context.ledger, context.clock
    sink = LogSink(ingestor.submit, ingestor.append_records, logged=logged)
    decisions = Decisions(
        ledger=ledger,
        schedules=schedules,
        clock=clock,
        sink=sink,
        allowed_without_ledger=frozenset(map(FeatureId, context.settings.allowed_without_ledger)),
    )
    reservations = Reservations(ledger=ledger, schedules=schedules, clock=clock, sink=sink)
    reading = ReadEntitlements(ledger=ledger, schedules=schedules, clock=clock)
    return {
        PATHS["consume"]: ConsumeEntitlements(decisions=decisions),
        PATHS["check"]: CheckEntitlements(checks=decisions.checks),
        PATHS["list"]: reading,
        PATHS["read"]: reading,
        RESERVATION_PATHS["reserve"]: ReserveEntitlements(decisions=decisions),
        RESERVATION_PATHS["settle"]: SettleEntitlements(reservations=reservations),
        RESERVATION_PATHS["release"]: ReleaseEntitlements(reservations=reservations),
    }


def ingest_limits(settings: Settings) -> IngestLimits:
    """The settings' limits as the pipeline takes them."""
    limits = settings.limits
    return IngestLimits(
        body_bytes_max=limits.body_bytes_max,
        inflated_bytes_max=limits.inflated_bytes_max,
        inflation_ratio_max=limits.inflation_ratio_max,
        body_s_max=limits.body_s_max,
        events_max=limits.events_per_body_max,
        event_bytes_max=limits.event_bytes_max,
        queue_events_max=limits.queue_events_max,
        queue_bytes_max=limits.queue_bytes_max,
    )
