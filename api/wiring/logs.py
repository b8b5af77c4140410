"""The logs as the worker sees them, and who finds copies among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from api.readers.base import Pace
from api.readers.copies import CopiesHome, CopiesReader
from api.readers.tails import LogTails, gateways_on_disk, newest_in, nodes_on_disk
from api.recent import Recent
from api.settings import Settings
from api.siblings import log_is_open, node_socket
from catalog.clock import DAY_US, Clock, Micros
from catalog.ids import NodeId
from storage.copies.names import compensations_node
from storage.sql.nodes import NodeRegistry

COPIES_PACE = Pace(poll_s=0.02, gather_s=0.2)
"""A question takes what there is at once; without one copies may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The nodes' logs as the worker sees them.

    ``tails`` are of every node that ever wrote here, retired ones too: their events count.
    ``live`` are of the nodes that the watermark waits for. ``copies`` finds copies among them.
    ``read`` is what the readers follow: the tails, and the compensations that copies writes.
    """

    directory: Path
    tails: LogTails
    live: LogTails
    read: LogTails
    copies: CopiesReader
    window_us: int
    clock: Clock

    def window_start(self) -> Micros:
        """What was received from here on every gateway still knows by its identity."""
        return Micros(self.clock.now_us() - self.window_us)

    def newest(self) -> Micros:
        """The latest instant any log holds: nothing may be recorded before it any more."""
        return newest_in(self.tails)


def build_logs(
    settings: Settings, registry: NodeRegistry, clock: Clock, *, at_rest: bool = False
) -> Logs:
    """Followers of every node's log. ``at_rest``: no gateway runs, and none is waited for."""
    directory = settings.data / "nodes"

    def live() -> list[NodeId]:
        on_disk = set(nodes_on_disk(directory))
        return [record.node for record in registry.nodes() if record.node in on_disk]

    def watermark() -> Micros | None:
        durable = [tail.durable().received_at for tail in watermark_tails().values()]
        return None if at_rest or not durable else min(durable)

    def opened(node: NodeId) -> bool:
        return at_rest or node not in live() or log_is_open(node_socket(settings.data, node))

    watermark_tails = LogTails(directory, Recent(live))
    tails = LogTails(directory, lambda: gateways_on_disk(directory))
    home = _copies_home(settings, directory, clock)
    copies = CopiesReader(
        home=home,
        tails=tails,
        earlier=LogTails(directory, lambda: gateways_on_disk(directory)),
        watermark=watermark,
        opened=opened,
        pace=None if at_rest else COPIES_PACE,
    )
    return Logs(
        directory=directory,
        tails=tails,
        live=LogTails(directory, live),
        read=LogTails(
            directory,
            lambda: [*gateways_on_disk(directory), copies.node],
            through=lambda: copies.through,
        ),
        copies=copies,
        window_us=home.window_us,
        clock=clock,
    )


def _copies_home(settings: Settings, nodes: Path, clock: Clock) -> CopiesHome:
    return CopiesHome(
        nodes=nodes,
        node=compensations_node(nodes_on_disk(nodes), prefix=settings.node),
        scratch=settings.data / "copies",
        clock=clock,
        window_us=settings.log.window_days * DAY_US,
    )
