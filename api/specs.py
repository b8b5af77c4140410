"""Every fact spec there ever was: what the readers extract, so that any ``as_of`` can be rated."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from catalog.grammar import parse_value
from catalog.history import Kind, Statement
from catalog.ids import SpecId
from catalog.meters import FactSpec, Meter


class MeterHistory(Protocol):
    """The part of the statement store that this needs."""

    def revision(self) -> int:
        """The number of the last statement. Cheap."""
        ...

    def every(self, kind: Kind, *, after: int) -> tuple[Statement, ...]:
        """Every statement about one kind with a revision above ``after``, in order."""
        ...


class SpecsEver:
    """The specs of every version of every meter that was ever stated. Only grows. Thread-safe."""

    def __init__(self, history: MeterHistory) -> None:
        self._history = history
        self._revision = 0
        self._specs: dict[SpecId, FactSpec] = {}
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[SpecId, FactSpec]:
        """All of them as of now; the same mapping while nothing was stated."""
        revision = self._history.revision()
        with self._lock:
            if revision != self._revision:
                found = dict(self._specs)
                for statement in self._history.every(Kind.METERS, after=self._revision):
                    for version in statement.versions:
                        meter = parse_value(Kind.METERS, statement.id, version.body)
                        assert isinstance(meter, Meter)
                        found[meter.fact_spec.id] = meter.fact_spec
                self._specs, self._revision = found, revision
            return self._specs
