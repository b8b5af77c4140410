"""What is counted: event types, the value read from them, and how values aggregate."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from catalog.ids import MeterId, SpecId


class Aggregation(StrEnum):
    """How the values of a meter's events become one quantity."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVERAGE = "average"
    LATEST = "latest"
    UNIQUE_COUNT = "unique_count"
    PERCENTILE = "percentile"
    WEIGHTED_SUM = "weighted_sum"


ADDITIVE = frozenset({Aggregation.SUM, Aggregation.COUNT})
"""Aggregations whose usage adds up event by event: what an allowance can be kept of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test of a filter, on a path (``data.region``) or a dimension name.

    Exactly one of ``included``, ``excluded``, ``exists`` is set. Values compare as text. An
    event without the path fails the test, unless ``optional``.
    """

    path: str
    included: tuple[str, ...] | None = None
    excluded: tuple[str, ...] | None = None
    exists: bool | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSpec:
    """What a meter reads from one event: the part whose change means reading the log again.

    Two versions of a meter (or two meters) that read the same share their facts.
    ``value`` is a path, null for count. ``as_text`` keeps the value as JSON text
    (unique_count counts distinct JSON values, which need not be numbers).
    ``dimensions`` are (name, path), sorted by name.
    """

    event_types: tuple[str, ...]
    value: str | None
    as_text: bool
    dimensions: tuple[tuple[str, str], ...]
    filter: tuple[Condition, ...]

    @property
    def id(self) -> SpecId:
        """A digest of the content: stable across processes and releases.

        Where it changes, facts are read from the log anew: those of specs with a value once held
        events without one, too.
        """
        conditions = [
            [c.path, c.included, c.excluded, c.exists, c.optional]
            for c in sorted(self.filter, key=lambda c: c.path)
        ]
        content = [sorted(self.event_types), self.value, self.as_text, self.dimensions, conditions]
        if self.value is not None:
            content.append("valued")
        text = json.dumps(content, separators=(",", ":"))
        return SpecId(hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """An event type and the aggregation of its events.

    ``percentile`` is in (0, 100]. ``window`` is the text of a duration (``5m``, ``1h``, ``1d``):
    values are first summed per window, then aggregated. ``billable=False`` meters are counted
    and never priced.
    """

    id: MeterId
    event_types: tuple[str, ...]
    aggregation: Aggregation
    value: str | None = None
    percentile: Decimal | None = None
    window: str | None = None
    dimensions: tuple[tuple[str, str], ...] = ()
    filter: tuple[Condition, ...] = ()
    billable: bool = True

    @property
    def fact_spec(self) -> FactSpec:
        """What this meter reads from an event."""
        return self.reading(self.value, as_text=self.aggregation is Aggregation.UNIQUE_COUNT)

    def reading(self, value: str | None, *, as_text: bool = False) -> FactSpec:
        """The events and dimensions of this meter with another ``value``: a dynamic price's."""
        return FactSpec(
            event_types=self.event_types,
            value=value,
            as_text=as_text,
            dimensions=tuple(sorted(self.dimensions)),
            filter=self.filter,
        )
