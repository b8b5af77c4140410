"""What a stretch of a node's log means for the ledger: uses, reversed uses, settled keys."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from api.readers.base import Tail
from api.readers.pages import voids_of
from catalog.clock import to_micros
from catalog.events import RecordKind
from catalog.ids import CustomerId, NodeId
from entitlements.attribution import Attribution
from entitlements.ports import SOURCE, KeyRecord
from entitlements.usage import record_of
from ingest.extract import extract_facts


def uses_of(
    records: pl.DataFrame, tail: Tail, *, attribution: Attribution, node: NodeId
) -> pl.DataFrame:
    """USES of a stretch of one node's log: its events, and with negative amounts what it voids.

    A reversed use has the ``seq`` of the void, and the attribution the event has now: whoever
    filed it under another catalog has filed it anew since.
    """
    specs = attribution.specs
    uses = attribution.uses(extract_facts(records, specs, node=node))
    voids = voids_of(records, node=node).select("seq", "target_seq")
    if voids.is_empty():
        return uses
    originals = extract_facts(_originals(records, voids, tail), specs, node=node)
    reversed_uses = (
        attribution.uses(originals)
        .rename({"seq": "target_seq"})
        .join(voids, on="target_seq")
        .with_columns(amount=-pl.col("amount"))
        .select(uses.columns)
        .cast(uses.schema)
    )
    return pl.concat([uses, reversed_uses])


def _originals(records: pl.DataFrame, voids: pl.DataFrame, tail: Tail) -> pl.DataFrame:
    """The voided events: mostly from the same stretch, else read one by one."""
    wanted = voids["target_seq"].unique().sort()
    near = records.filter(pl.col("seq").is_in(wanted.implode()))
    missing = wanted.filter(~wanted.is_in(near["seq"].implode()))
    far = [tail.read_after(seq - 1, rows_max=1) for seq in missing]
    return pl.concat([near, *far])


def settled_in(records: pl.DataFrame) -> Iterator[tuple[CustomerId, int, KeyRecord]]:
    """The keys whose consume is complete with an event of this stretch, with that event's seq."""
    own = records.filter(
        pl.col("kind").eq(RecordKind.EVENT.value), pl.col("source").eq(SOURCE)
    ).select("seq", "id", "time", "data")
    for seq, hold, time, data in own.iter_rows():
        found = record_of(hold, to_micros(time), data)
        if found is not None:
            yield found[0], seq, found[1]
