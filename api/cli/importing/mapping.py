"""The mapping file: which columns of a table become which parts of an event.

```yaml
source: switch-ports                              # a constant
type: port.sample                                 # a constant
id: "{DeviceName}/{PortName}/{SaveTimeUTC}"       # columns in braces; {row} counts from 0
subject: "{DeviceName}"
time: {column: SaveTimeUTC, unit: ms}             # s | ms | us | ns | rfc3339; origin? for offsets
data: {port: PortName, in_octets: InOctets}       # name in the event: column
```
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Formatter
from typing import Any

import polars as pl
import yaml

from catalog.clock import to_micros
from catalog.errors import DomainError

ROW = "row"
UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
UNITS = (*UNITS_US, "ns", "rfc3339")
KEYS = {"source", "type", "id", "subject", "time", "data"}


class InvalidMapping(DomainError):
    """The mapping file is not of the form above, or names a column that is not there."""

    code = "invalid_mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeColumn:
    """Where an event's time comes from: a column, its unit, and what an offset counts from."""

    column: str
    unit: str
    origin_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Templates and columns. ``time=None`` leaves it to the gateway's clock."""

    source: str
    type: str
    id: str
    subject: str
    time: TimeColumn | None
    data: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> set[str]:
        """Every column the mapping reads, ``row`` aside."""
        templates = (self.source, self.type, self.id, self.subject)
        named = {name for text in templates for name in _fields(text)} - {ROW}
        named |= {column for _, column in self.data}
        return named | ({self.time.column} if self.time else set())


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name]


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        InvalidMapping: naming the key that is missing, unknown or of the wrong form.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InvalidMapping(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidMapping(f"{path}: a mapping file is a mapping of {', '.join(sorted(KEYS))}")
    if unknown := set(tree) - KEYS:
        raise InvalidMapping(f"{path}: unknown key {min(unknown)!r}")
    if missing := KEYS - {"time", "data"} - set(tree):
        raise InvalidMapping(f"{path}: {min(missing)!r} is missing")
    data = tree.get("data") or {}
    if not isinstance(data, dict):
        raise InvalidMapping(f"{path}: data: name: column, one a line")
    return Mapping(
        source=str(tree["source"]),
        type=str(tree["type"]),
        id=str(tree["id"]),
        subject=str(tree["subject"]),
        time=_time(path, tree["time"]) if tree.get("time") else None,
        data=tuple((str(name), str(column)) for name, column in data.items()),
    )


def _time(path: Path, tree: Any) -> TimeColumn:
    if not isinstance(tree, dict) or "column" not in tree or tree.get("unit") not in UNITS:
        raise InvalidMapping(f"{path}: time: {{column, unit: {' | '.join(UNITS)}, origin?}}")
    origin = tree.get("origin")
    if isinstance(origin, str):
        origin = datetime.fromisoformat(origin)
    if origin is not None and (not isinstance(origin, datetime) or origin.tzinfo is None):
        raise InvalidMapping(f"{path}: time.origin is a time with an offset")
    return TimeColumn(
        column=str(tree["column"]),
        unit=tree["unit"],
        origin_us=to_micros(origin) if origin else 0,
    )


def _template(text: str) -> pl.Expr:
    """``a{b}c`` as an expression; a null column makes the whole null."""
    parts = [
        part
        for literal, name, _, _ in Formatter().parse(text)
        for part in (pl.lit(literal), pl.col(name).cast(pl.String) if name else None)
        if part is not None
    ]
    return pl.concat_str(parts)


def _instants(time: TimeColumn) -> pl.Expr:
    column = pl.col(time.column)
    if time.unit == "rfc3339":
        return column.cast(pl.String)
    if time.unit == "ns":
        micros = column.cast(pl.Int64) // 1_000
    else:
        micros = column.cast(pl.Int64) * UNITS_US[time.unit]
    return (micros + time.origin_us).cast(pl.Datetime("us", "UTC"))


def to_events(table: pl.DataFrame, mapping: Mapping, *, first_row: int) -> pl.DataFrame:
    """Rows of a table as events: id, source, type, subject, time, data (JSON text).

    Pure and deterministic: the same row gives the same event, so that importing a file again is
    only duplicates. Nanoseconds are cut to microseconds. Decimals go as strings, to stay exact.

    Raises:
        InvalidMapping: a column that the mapping names is not in the table.
    """
    if missing := mapping.columns - set(table.columns):
        raise InvalidMapping(f"no column {min(missing)!r} in the file: {table.columns}")
    table = table.with_row_index(ROW, offset=first_row) if ROW not in table.columns else table
    exact = [
        pl.col(column).cast(pl.String) if table[column].dtype.is_decimal() else pl.col(column)
        for _, column in mapping.data
    ]
    named = [expr.alias(name) for expr, (name, _) in zip(exact, mapping.data, strict=True)]
    data = pl.struct(named).struct.json_encode() if named else pl.lit("{}")
    return table.select(
        _template(mapping.id).alias("id"),
        _template(mapping.source).alias("source"),
        _template(mapping.type).alias("type"),
        _template(mapping.subject).alias("subject"),
        *([_instants(mapping.time).alias("time")] if mapping.time else []),
        data.alias("data"),
    )
