"""Every fact spec there ever was: what the readers extract, so that any ``as_of`` can be rated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from catalog.grammar import parse_value
from catalog.history import Kind, Statement
from catalog.ids import MeterId, ProductId, SpecId
from catalog.meters import FactSpec, Meter
from catalog.specs import specs_of_amounts

Specs = Callable[[], Mapping[SpecId, FactSpec]]
"""Which specs to extract, asked again and again."""


class MeterHistory(Protocol):
    """The part of the statement store that this needs."""

    def revision(self) -> int:
        """The number of the last statement. Cheap."""
        ...

    def every(self, kind: Kind, *, after: int) -> tuple[Statement, ...]:
        """Every statement about one kind with a revision above ``after``, in order."""
        ...


class SpecsEver:
    """The specs of every meter and dynamic price that was ever stated. Only grows. Thread-safe."""

    def __init__(self, history: MeterHistory) -> None:
        self._history = history
        self._revision = 0
        self._meters: dict[MeterId, list[Meter]] = {}
        self._metered: dict[ProductId, set[MeterId]] = {}
        self._amounts: set[tuple[ProductId, str]] = set()
        self._specs: dict[SpecId, FactSpec] = {}
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[SpecId, FactSpec]:
        """All of them as of now; the same mapping while nothing was stated."""
        revision = self._history.revision()
        with self._lock:
            if revision != self._revision:
                self._read()
                self._specs, self._revision = self._made(), revision
            return self._specs

    def _read(self) -> None:
        """Take in what was stated since: meters, products' meters, amounts in events."""
        for statement in self._every(Kind.METERS):
            for version in statement.versions:
                meter = parse_value(Kind.METERS, statement.id, version.body)
                assert isinstance(meter, Meter)
                self._meters.setdefault(meter.id, []).append(meter)
        for statement in self._every(Kind.PRODUCTS):
            named = {version.body.get("meter") for version in statement.versions}
            meters = {MeterId(name) for name in named if isinstance(name, str)}
            self._metered.setdefault(ProductId(statement.id), set()).update(meters)
        for kind in (Kind.PRICEBOOKS, Kind.CONTRACTS):
            for statement in self._every(kind):
                for version in statement.versions:
                    self._amounts.update(_amounts(version.body))

    def _every(self, kind: Kind) -> tuple[Statement, ...]:
        return self._history.every(kind, after=self._revision)

    def _made(self) -> dict[SpecId, FactSpec]:
        read = [meter.fact_spec for meters in self._meters.values() for meter in meters]
        named = specs_of_amounts(self._amounts, self._metered, self._meters)
        return {spec.id: spec for spec in (*read, *named)}


def _amounts(body: object) -> Iterator[tuple[ProductId, str]]:
    """(product, path) of every dynamic price in a document, however deep."""
    if isinstance(body, Mapping):
        charge = body.get("charge")
        if isinstance(charge, Mapping) and charge.get("model") == "dynamic":
            yield ProductId(str(body["product"])), str(charge["amount"])
        for value in body.values():
            yield from _amounts(value)
    elif isinstance(body, Sequence) and not isinstance(body, str):
        for value in body:
            yield from _amounts(value)
