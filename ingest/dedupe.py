"""Which events of a group are new, which are copies, and which copies say something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.identity import Identities, digest, identify
from ingest.jsontext import canonical_json
from ingest.ports import IdentityIndex, RecordReader

_COMPARED = ("type", "subject", "time", "time_given", "data")

Event = Mapping[str, Any]


class Copy(IntEnum):
    """What an event is beside those that came before it."""

    NEW = 0
    DUPLICATE = 1
    CONFLICT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """``copies`` holds a :class:`Copy` a row; ``identities`` is what the index is to remember."""

    copies: npt.NDArray[np.int8]
    identities: Identities


def sort_copies(events: pa.RecordBatch, *, index: IdentityIndex, reader: RecordReader) -> Sorted:
    """Compare events, in row order, with those accepted before and with each other.

    Of copies within ``events`` the first that is not known yet is NEW. A copy is a DUPLICATE if it
    says the same (:func:`same_content`), else a CONFLICT.
    """
    ids = identities_of(events, key=index.key)
    probed = index.probe(ids)
    known = probed.seq > 0
    copies = np.where(known, Copy.DUPLICATE, Copy.NEW).astype(np.int8)
    doubtful = np.flatnonzero(known & ~probed.same)
    if len(doubtful):
        seqs = probed.seq[doubtful]
        originals = {
            row["seq"]: row for row in reader.read(np.unique(seqs).tolist()).iter_rows(named=True)
        }
        for row, seq in zip(doubtful.tolist(), seqs.tolist(), strict=True):
            if not same_content(_event(events, row), originals[seq]):
                copies[row] = Copy.CONFLICT
    first = ids.first()
    for row in np.flatnonzero((first != np.arange(len(first))) & ~known).tolist():
        leader = int(first[row])
        same = ids.content[row] == ids.content[leader] or same_content(
            _event(events, row), _event(events, leader)
        )
        copies[row] = Copy.DUPLICATE if same else Copy.CONFLICT
    return Sorted(copies=copies, identities=ids)


def identities_of(events: pa.RecordBatch, *, key: npt.NDArray[np.uint64]) -> Identities:
    """The identities of APPENDED_ARROW events, under an index's key."""
    halves = identify(events.column("source"), events.column("id"), key=key)
    return Identities(*halves, digest(events))


def same_content(one: Event, other: Event) -> bool:
    """Whether two events with one identity say the same.

    Type, subject and data (as a JSON value, numbers exact) are compared, and the time: given in
    both and equal, or given in neither.
    """
    if one["type"] != other["type"] or one["subject"] != other["subject"]:
        return False
    if one["time_given"] != other["time_given"]:
        return False
    if one["time_given"] and one["time"] != other["time"]:
        return False
    return one["data"] == other["data"] or canonical_json(one["data"]) == canonical_json(
        other["data"]
    )


def _event(events: pa.RecordBatch, row: int) -> Event:
    return {name: events.column(name)[row].as_py() for name in _COMPARED}
