"""What the statistics of a facts file say of its rows, so that columns need not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROWS_MAX = 1 << 20
"""So many rows are added up at once: what bounds the memory of adding up any number of them."""
CONSTANT_BYTES_MAX = 32
"""Statistics of longer texts may be cut: only shorter ones are taken as what all rows say."""

Range = tuple[int, int]
"""The smallest and the largest of some instants (µs)."""
Names = tuple[str, str]
"""Texts that no subject is before or after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Rows ``[first, first + count)`` of a file (``whole``: all of it); what is known of each.

    Null is unknown: then the column has to be read. ``dimensions`` is the text that every row has;
    ``valueless`` says that no row has a value.
    """

    first: int
    count: int
    whole: bool = False
    subjects: Names | None = None
    time: Range | None = None
    received: Range | None = None
    dimensions: str | None = None
    valueless: bool = False


def known_rows(path: Path, wanted: Callable[[Known], bool]) -> Iterator[Known]:
    """The rows of a file of FACTS that are in ``wanted`` row groups.

    Neighbours are one as long as there are :data:`ROWS_MAX` rows or fewer; a group is never split.
    """
    metadata = pq.read_metadata(path)
    places = {name: index for index, name in enumerate(metadata.schema.names)}
    held: Known | None = None
    first = 0
    for number in range(metadata.num_row_groups):
        group = _of_group(metadata.row_group(number), places, first)
        group = replace(group, whole=group.count == metadata.num_rows)
        first += group.count
        if not wanted(group):
            continue
        joined = None if held is None else _joined(held, group)
        if joined is not None:
            joined = replace(joined, whole=joined.count == metadata.num_rows)
        if held is not None and joined is None:
            yield held
        held = group if joined is None else joined
    if held is not None:
        yield held


def _of_group(group: Any, places: dict[str, int], first: int) -> Known:
    found = {
        name: group.column(places[name]).statistics
        for name in ("subject", "time", "received_at", "dimensions", "value")
    }
    value = found["value"]
    absent = value.null_count if value is not None and value.has_null_count else None
    return Known(
        first=first,
        count=group.num_rows,
        subjects=_names(found["subject"]),
        time=_range(found["time"]),
        received=_range(found["received_at"]),
        dimensions=_constant(found["dimensions"]),
        valueless=absent == group.num_rows,
    )


def _range(statistics: Any) -> Range | None:
    if not _complete(statistics):
        return None
    return int(statistics.min_raw), int(statistics.max_raw)


def _names(statistics: Any) -> Names | None:
    return (statistics.min, statistics.max) if _complete(statistics) else None


def _constant(statistics: Any) -> str | None:
    if not _complete(statistics):
        return None
    low: str = statistics.min
    same = low == statistics.max and len(low.encode()) < CONSTANT_BYTES_MAX
    return low if same else None


def _complete(statistics: Any) -> bool:
    """Whether there is a smallest and a largest, and no null beside them."""
    if statistics is None or not statistics.has_min_max or not statistics.has_null_count:
        return False
    return bool(statistics.null_count == 0)


def together(one: Known, other: Known) -> Known | None:
    """What is known of two whole files; null where they are no whole files, or not alike."""
    if not (one.whole and other.whole):
        return None
    found = _joined(one, replace(other, first=one.count))
    return None if found is None else replace(found, whole=True)


def _joined(one: Known, other: Known) -> Known | None:
    """Both as one; null where they are too large or not neighbours that are alike."""
    alike = (one.dimensions, one.valueless) == (other.dimensions, other.valueless)
    adjacent = one.first + one.count == other.first
    if not alike or not adjacent or one.count + other.count > ROWS_MAX:
        return None
    return replace(
        one,
        count=one.count + other.count,
        subjects=None,
        time=_both(one.time, other.time),
        received=_both(one.received, other.received),
    )


def _both(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return None
    return min(one[0], other[0]), max(one[1], other[1])
