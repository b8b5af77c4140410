"""What ``verify`` compares: the logs, and each store that was derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from api.checks.copies import check_copies
from api.checks.report import Check
from api.readers.base import Tail
from api.readers.tails import follow, nodes_on_disk
from api.specs import Specs
from api.verify import MoreChecks, Verification
from api.wiring.logs import Logs
from api.wiring.stores import LedgerFollower, Stores
from catalog.errors import Unavailable
from catalog.ids import NodeId
from storage.copies.names import is_compensations
from storage.log.frames import LogCorrupt


def verification(
    logs: Logs,
    stores: Stores,
    specs: Specs,
    *,
    balances: bool = True,
    more: tuple[MoreChecks, ...] = (),
) -> Verification:
    """What ``verify`` compares, with followers of its own (a follower belongs to one thread)."""
    own = {
        node: (logs.directory / node, follow(logs.directory / node, node))
        for node in nodes_on_disk(logs.directory)
    }
    return Verification(
        logs=own,
        specs=specs(),
        facts=stores.facts,
        cells=stores.cells,
        clickhouse=stores.clickhouse,
        more=(
            lambda: _copies(logs, {node: tail for node, (_, tail) in own.items()}),
            *((lambda: _balances(stores.ledger),) if balances else ()),
            *more,
        ),
    )


def _copies(logs: Logs, tails: Mapping[NodeId, Tail]) -> Iterable[Check]:
    """The compensations against a recount of the copies in the logs."""
    gateways = {node: tail for node, tail in tails.items() if not is_compensations(node)}
    for node in tails.keys() - gateways.keys():
        try:
            yield check_copies(gateways, tails[node], window_us=logs.window_us)
        except LogCorrupt as error:
            yield Check.well("copies", "compensations", None, "").unavailable(error.detail)


def _balances(reader: LedgerFollower) -> Iterable[Check]:
    """The ledger's balances against a recount of the log."""
    check = Check.well("balances", "ledger", None, "balances are as recounted from the log")
    try:
        differences = reader.recount()
    except Unavailable as error:
        yield check.unavailable(error.detail)
        return
    yield check if not differences else check.differs(None, "; ".join(map(str, differences[:3])))
