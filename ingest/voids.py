"""Voiding events: a compensating record that names the event, never a change to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.clock import DAY_US, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId
from ingest.batch import APPENDED
from ingest.identity import Identities, identify
from ingest.jsontext import dump
from ingest.ports import IdentityIndex, RecordReader

UNKNOWN_EVENT = "unknown_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidItem:
    """One event to void. ``index`` is the item's place in the request.

    ``time`` (microseconds) says which one, where the identity came back after the window: the
    event of that UTC day. It must be given for events that were received before the window.
    """

    index: int
    source: str
    id: str
    reason: str
    time: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidOutcome:
    """voided + already_void + unknown are all the items. ``unknown`` are none that was found."""

    voided: int
    already_void: int
    unknown: Sequence[VoidItem] = ()

    def then(self, rest: VoidOutcome) -> VoidOutcome:
        """This one, where the unknown items were looked for elsewhere with that outcome."""
        return VoidOutcome(
            voided=self.voided + rest.voided,
            already_void=self.already_void + rest.already_void,
            unknown=rest.unknown,
        )

    def as_json(self) -> dict[str, object]:
        """As the reply shows it."""
        rejected = [
            {"index": item.index, "id": item.id, "code": UNKNOWN_EVENT} for item in self.unknown
        ]
        return {"voided": self.voided, "already_void": self.already_void, "rejected": rejected}


@dataclass(slots=True, kw_only=True)
class SortedVoids:
    """An outcome, the seqs it voids, and the APPENDED records that say so."""

    outcome: VoidOutcome
    seqs: list[int] = field(default_factory=list)
    records: pl.DataFrame = field(default_factory=APPENDED.to_frame)


def sort_voids(
    items: Sequence[VoidItem],
    *,
    index: IdentityIndex,
    reader: RecordReader,
    before: Sequence[int],
) -> SortedVoids:
    """Find the events. One that is void, or is among ``before`` or named twice, is void already."""
    seqs = _of_their_day(items, _seqs_of(items, index), reader)
    void = dict(zip(seqs, index.is_void(seqs), strict=True)) if seqs else {}
    taken = set(before) | {seq for seq, is_void in void.items() if is_void}
    unknown, chosen = [], []
    for item, seq in zip(items, seqs, strict=True):
        if not seq:
            unknown.append(item)
        elif seq not in taken:
            taken.add(seq)
            chosen.append((item, seq))
    already = len(items) - len(unknown) - len(chosen)
    outcome = VoidOutcome(voided=len(chosen), already_void=already, unknown=tuple(unknown))
    records = void_records([(item, None, seq) for item, seq in chosen])
    return SortedVoids(outcome=outcome, seqs=[seq for _, seq in chosen], records=records)


def _seqs_of(items: Sequence[VoidItem], index: IdentityIndex) -> list[int]:
    if not items:
        return []
    source = pa.array([item.source for item in items], pa.string())
    id_ = pa.array([item.id for item in items], pa.string())
    any_content = np.zeros(len(items), np.uint64)
    identities = Identities(*identify(source, id_, key=index.key), any_content)
    return [int(seq) for seq in index.probe(identities).seq]


def _of_their_day(
    items: Sequence[VoidItem], seqs: Sequence[int], reader: RecordReader
) -> list[int]:
    """``seqs`` with 0 where the item means an event of another day than the one found."""
    dated = [seq for item, seq in zip(items, seqs, strict=True) if seq and item.time is not None]
    if not dated:
        return list(seqs)
    found = reader.read(sorted(set(dated))).select("seq", pl.col("time").dt.epoch("us"))
    times = dict(found.iter_rows())
    return [
        0 if seq and item.time is not None and item.time // DAY_US != times[seq] // DAY_US else seq
        for item, seq in zip(items, seqs, strict=True)
    ]


def void_records(chosen: Sequence[tuple[VoidItem, NodeId | None, int]]) -> pl.DataFrame:
    """APPENDED records that void the event at each (node, seq); null is the node they go to."""
    rows = [
        {
            "kind": RecordKind.VOID.value,
            "source": item.source,
            "id": item.id,
            "type": node,
            "data": dump({"reason": item.reason}),
            "target": seq,
        }
        for item, node, seq in chosen
    ]
    return pl.DataFrame(rows, schema=APPENDED)
