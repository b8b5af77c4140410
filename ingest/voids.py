"""Voiding events: a compensating record that names the event, never a change to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.events import RecordKind
from ingest.batch import APPENDED
from ingest.identity import Identities, identify
from ingest.jsontext import dump
from ingest.ports import IdentityIndex

UNKNOWN_EVENT = "unknown_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidItem:
    """One event to void. ``index`` is the item's place in the request."""

    index: int
    source: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidOutcome:
    """voided + already_void + unknown are all the items. ``unknown`` were never accepted here."""

    voided: int
    already_void: int
    unknown: Sequence[VoidItem] = ()

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
    items: Sequence[VoidItem], *, index: IdentityIndex, before: Sequence[int]
) -> SortedVoids:
    """Find the events. One that is void, or is among ``before`` or named twice, is void already."""
    seqs = _seqs_of(items, index)
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
    records = _records([item for item, _ in chosen], [seq for _, seq in chosen])
    return SortedVoids(outcome=outcome, seqs=[seq for _, seq in chosen], records=records)


def _seqs_of(items: Sequence[VoidItem], index: IdentityIndex) -> list[int]:
    if not items:
        return []
    source = pa.array([item.source for item in items], pa.string())
    id_ = pa.array([item.id for item in items], pa.string())
    any_content = np.zeros(len(items), np.uint64)
    identities = Identities(*identify(source, id_, key=index.key), any_content)
    return [int(seq) for seq in index.probe(identities).seq]


def _records(items: Sequence[VoidItem], seqs: Sequence[int]) -> pl.DataFrame:
    rows = [
        {
            "kind": RecordKind.VOID.value,
            "source": item.source,
            "id": item.id,
            "data": dump({"reason": item.reason}),
            "target": seq,
        }
        for item, seq in zip(items, seqs, strict=True)
    ]
    return pl.DataFrame(rows, schema=APPENDED)
