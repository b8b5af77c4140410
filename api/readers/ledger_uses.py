"""What a stretch of a node's log means for the ledger: uses, reversed ones, keys, reservations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from api.readers.base import Tail
from api.readers.merged import read_seqs
from api.readers.pages import voids_of
from catalog.clock import Micros, to_micros
from catalog.events import RecordKind
from catalog.ids import CustomerId, FeatureId, NodeId
from entitlements.attribution import Attribution, deltas
from entitlements.grants import Schedule
from entitlements.holds import end_of_entry, record_of_hold
from entitlements.ports import SOURCE, End, EndKind, KeyRecord, Opened
from entitlements.usage import record_of
from ingest.extract import extract_facts
from storage.copies.names import is_compensations

FILED_KINDS = (RecordKind.HOLD.value, RecordKind.SETTLE.value, RecordKind.RELEASE.value)


@dataclass(slots=True)
class Changes:
    """What a stretch changes: ``deltas`` in nano-units by customer, and what is filed beside."""

    deltas: dict[CustomerId, list[tuple[FeatureId, int, int]]] = field(default_factory=dict)
    filed: list[Filed] = field(default_factory=list)

    def of(self, customers: Collection[CustomerId]) -> Changes:
        """Those of some customers."""
        return Changes(
            deltas={name: told for name, told in self.deltas.items() if name in customers},
            filed=[one for one in self.filed if one.customer in customers],
        )


def changes_of(
    records: pl.DataFrame,
    tails: Mapping[NodeId, Tail],
    *,
    attribution: Attribution,
    node: NodeId,
) -> Changes:
    """What a stretch of one node's log changes."""
    facts = extract_facts(records, attribution.specs, node=node)
    uses = uses_of(records, facts, tails, attribution=attribution, node=node)
    found = Changes(filed=list(filed_in(records)))
    for customer, feature, segment, nanos in deltas(uses).iter_rows():
        found.deltas.setdefault(customer, []).append((feature, segment, nanos))
    return found


def uses_of(
    records: pl.DataFrame,
    facts: pl.DataFrame,
    tails: Mapping[NodeId, Tail],
    *,
    attribution: Attribution,
    node: NodeId,
) -> pl.DataFrame:
    """USES of a stretch of one node's log: its events, and with negative amounts what is out.

    ``facts`` are the stretch's, of the attribution's specs.

    Where the readers keep compensations these alone take out: of any number of voids and copies
    each event is there once. Else the voids of the node's own log do.

    A reversed use has the ``seq`` of the compensation, and the attribution the event has now:
    whoever filed it under another catalog has filed it anew since.
    """
    uses = attribution.uses(facts)
    if not is_compensations(node) and any(map(is_compensations, tails)):
        return uses
    voids = voids_of(records, node=node).select("seq", "target_node", "target_seq")
    if voids.is_empty():
        return uses
    parts = [uses]
    for (owner,), own in voids.partition_by("target_node", as_dict=True).items():
        parts.append(_reversed(own, tails, attribution, NodeId(owner)))
    return pl.concat(part.select(uses.columns).cast(uses.schema) for part in parts)


def _reversed(
    voids: pl.DataFrame,
    tails: Mapping[NodeId, Tail],
    attribution: Attribution,
    owner: NodeId,
) -> pl.DataFrame:
    """USES with negative amounts of the events of ``owner`` that ``voids`` name."""
    originals = read_seqs(tails[owner], voids["target_seq"])
    return (
        attribution.uses(extract_facts(originals, attribution.specs, node=owner))
        .rename({"seq": "target_seq"})
        .join(voids, on="target_seq")
        .with_columns(amount=-pl.col("amount"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A HOLD of the log: the reservation's record and what it holds, by feature."""

    record: KeyRecord
    amounts: Mapping[FeatureId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """Something of a customer that the ledger files beside usage, and the record it is in."""

    customer: CustomerId
    seq: int
    what: KeyRecord | Hold | End


def filed_in(records: pl.DataFrame) -> Iterator[Filed]:
    """What a stretch tells of keys and reservations, in log order.

    A key is settled by the last event of its consume; reservations open with a HOLD, and end with
    a SETTLE or a RELEASE.
    """
    kinds = pl.col("kind")
    own = (
        records.lazy()
        .filter(
            (kinds.eq(RecordKind.EVENT.value) & pl.col("source").eq(SOURCE))
            | kinds.is_in(FILED_KINDS)
        )
        .select("seq", "kind", "id", "subject", "time", "data")
        .collect(engine="in-memory")
    )
    for seq, kind, name, subject, time, data in own.iter_rows():
        found = filed_as(kind, name, to_micros(time), data)
        if found is not None:
            yield Filed(customer=found[0] or subject, seq=seq, what=found[1])


def filed_as(
    kind: int, name: str, at: Micros, data: str
) -> tuple[CustomerId | None, KeyRecord | Hold | End] | None:
    """What a record of ours files, and for whom (null: its subject); None where it files nothing.

    ``kind`` is that of an event of ours, a hold, a settle or a release.
    """
    if kind == RecordKind.EVENT.value:
        return record_of(name, at, data)
    if kind == RecordKind.HOLD.value:
        record, amounts = record_of_hold(name, at, data)
        return None, Hold(record=record, amounts=amounts)
    ends = EndKind.SETTLE if kind == RecordKind.SETTLE.value else EndKind.RELEASE
    return None, end_of_entry(ends, name, at, data)


@dataclass(slots=True)
class Sorted:
    """A customer's filed things by kind; of what is told several times the last counts."""

    settled: dict[str, KeyRecord] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    ended: dict[str, End] = field(default_factory=dict)

    def add(self, what: KeyRecord | Hold | End) -> None:
        """Take one more."""
        match what:
            case KeyRecord():
                self.settled[what.key] = what
            case Hold():
                self.holds[what.record.hold] = what
            case End():
                self.ended[what.reservation] = what

    def opened(self, schedules: Mapping[FeatureId, Schedule]) -> list[Opened]:
        """The reservations, with the segment of each amount."""
        return [
            Opened(record=hold.record, places=_places(hold, schedules))
            for hold in self.holds.values()
        ]


def _places(
    hold: Hold, schedules: Mapping[FeatureId, Schedule]
) -> list[tuple[FeatureId, int, int]]:
    """Where the units are held. A feature that has no schedule any more holds nothing."""
    found = []
    for feature, amount in hold.amounts.items():
        schedule = schedules.get(feature)
        segment = schedule.segment_at(hold.record.at) if schedule else None
        if segment is not None:
            found.append((feature, int(segment.start), amount))
    return found
