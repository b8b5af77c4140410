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
from entitlements.attribution import Account, Attribution
from entitlements.ports import SOURCE
from ingest.reading import SpecReader

ROWS_MAX = 4_000
"""Longer stretches cost less in columns."""

_COLUMNS = ("seq", "kind", "source", "id", "type", "subject", "data")
_OUT = frozenset({RecordKind.VOID.value, RecordKind.COLLAPSED.value})


class RowByRow:
    """Reads stretches under one attribution."""

    def __init__(self, attribution: Attribution) -> None:
        self.attribution = attribution
        self._reader = SpecReader(attribution.specs)

    def changes(self, records: pl.DataFrame) -> Changes | None:
        """What RECORDS change; null where one of them takes another out: that is for columns."""
        found = Changes()
        rows = defaultdict[str, list[int]](list)
        columns = [records[name].to_list() for name in _COLUMNS]
        for at, (seq, kind, source, name, type_, subject, data) in enumerate(
            zip(*columns, strict=True)
        ):
            if kind == RecordKind.EVENT.value and self.attribution.claims(subject):
                rows[type_].append(at)
            if kind in _OUT:
                return None
            if kind in FILED_KINDS or source == SOURCE:
                filed = filed_as(kind, name, _instant(records, at), data)
                if filed is not None:
                    found.filed.append(Filed(customer=filed[0] or subject, seq=seq, what=filed[1]))
        for (customer, feature, segment), nanos in self._sums(records, rows).items():
            found.deltas.setdefault(customer, []).append((feature, segment, nanos))
        return found

    def _sums(
        self, records: pl.DataFrame, rows: Mapping[str, Sequence[int]]
    ) -> Mapping[Account, int]:
        """What the events in some rows, by type, add to whom."""
        sums = defaultdict[Account, int](int)
        times = records["time"].to_physical().to_list()
        subjects, texts = records["subject"].to_list(), records["data"].to_list()
        for kind, places in rows.items():
            owners, instants = [subjects[at] for at in places], [times[at] for at in places]
            for spec, values in self._reader.read_all(kind, [texts[at] for at in places]):
                self.attribution.add(sums, spec, zip(owners, instants, values, strict=True))
        return sums


def _instant(records: pl.DataFrame, row: int) -> Micros:
    return Micros(records["time"].to_physical()[row])
