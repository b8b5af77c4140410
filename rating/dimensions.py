"""Dimensions of facts: which a product takes, and under which group a line shows them.

Only the distinct texts are ever parsed, once each per product and grouping.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from catalog.events import EMPTY_DIMENSIONS
from catalog.meters import Condition
from rating.charges.matrix import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """What decides a fact's line, group and row.

    A product's filter, a price's ``group_by``, and the rows of a matrix where it has them.
    """

    filter: tuple[Condition, ...]
    group_by: tuple[str, ...]
    rows: Rows | None = None

    @property
    def trivial(self) -> bool:
        """Whether every fact passes and all are one group."""
        return not self.filter and not self.group_by

    def group(self, dimensions: str) -> str | None:
        """The group of facts with these dimensions; None where the filter leaves them out."""
        if self.trivial:
            return EMPTY_DIMENSIONS
        values: dict[str, str] = json.loads(dimensions)
        if not all(passes(condition, values) for condition in self.filter):
            return None
        return dimensions_text((name, values[name]) for name in self.group_by if name in values)

    def row(self, dimensions: str) -> int:
        """The row of the matrix that prices facts with these dimensions; 0 without a matrix."""
        return 0 if self.rows is None else self.rows.match(json.loads(dimensions))


def passes(condition: Condition, values: dict[str, str]) -> bool:
    """Whether one test of a filter holds; an absent dimension fails it unless optional."""
    value = values.get(condition.path)
    if condition.exists is not None:
        return (value is not None) is condition.exists
    if value is None:
        return condition.optional
    if condition.included is not None:
        return value in condition.included
    return condition.excluded is None or value not in condition.excluded


def dimensions_text(values: Iterable[tuple[str, str]]) -> str:
    """Dimensions as FACTS write them: a JSON object, keys sorted, no spaces, no escapes of text."""
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
