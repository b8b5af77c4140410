"""What a short stretch of a node's log means for the ledger, row by row.

:mod:`api.readers.ledger_uses` says the same in columns, at any length. A page of some hundred rows
took sixty hand-overs to Polars' pool and back, and on a busy core each waits its turn: that, not
the work, was most of what a balance waited for. Here it is a loop in one thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import polars as pl

from api.readers.ledger_uses import FILED_KINDS, Changes, Filed, filed_as
from catalog.clock import Micros
from catalog.events import RecordKind
from entitlements.attribution import Attribution, DeltaKey
from entitlements.ports import SOURCE
from ingest.reading import SpecReader

ROWS_MAX = 4_000
"""Longer stretches cost less in columns."""

_COLUMNS = ("seq", "kind", "source", "id", "type", "subject", "data")
_Event = tuple[str, int, str | None]
"""An event's subject, time (microseconds) and data."""

_OUT = frozenset({RecordKind.VOID.value, RecordKind.COLLAPSED.value})


class RowByRow:
    """Reads stretches under one attribution."""

    def __init__(self, attribution: Attribution) -> None:
        self.attribution = attribution
        self._reader = SpecReader(attribution.specs)

    def changes(self, records: pl.DataFrame) -> Changes | None:
        """What RECORDS change; null where one of them takes another out: that is for columns."""
        found = Changes()
        events = defaultdict[str, list[_Event]](list)
        times = records["time"].to_physical().to_list()
        columns = [records[name].to_list() for name in _COLUMNS]
        for at, seq, kind, source, name, type_, subject, data in zip(times, *columns, strict=True):
            if kind == RecordKind.EVENT.value and self.attribution.claims(subject):
                events[type_].append((subject, at, data))
            if kind in _OUT:
                return None
            if kind in FILED_KINDS or source == SOURCE:
                filed = filed_as(kind, name, Micros(at), data)
                if filed is not None:
                    found.filed.append(Filed(customer=filed[0] or subject, seq=seq, what=filed[1]))
        for (customer, feature, segment), nanos in self._sums(events).items():
            found.deltas.setdefault(customer, []).append((feature, segment, nanos))
        return found

    def _sums(self, events: Mapping[str, Sequence[_Event]]) -> Mapping[DeltaKey, int]:
        """What events, by type, add to whom."""
        sums = defaultdict[DeltaKey, int](int)
        for kind, some in events.items():
            subjects, times, texts = zip(*some, strict=True)
            for spec, values in self._reader.read_all(kind, texts):
                self.attribution.add(sums, spec, zip(subjects, times, values, strict=True))
        return sums
