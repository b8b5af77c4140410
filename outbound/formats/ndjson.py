"""NDJSON: one object a row, decimals as strings (a reader's double would lose digits)."""

from __future__ import annotations

import orjson

from outbound.formats.base import Format, Table

OBJECTS = ("dimensions",)
"""Columns that are JSON themselves."""


def objects(table: Table) -> list[dict[str, object]]:
    """Rows as JSON objects: whole numbers are numbers, decimals strings, dimensions an object."""
    whole = [name for name, dtype in table.typed.schema.items() if dtype.is_integer()]
    rows = table.text.with_columns(table.typed[name] for name in whole).to_dicts()
    for name in (name for name in OBJECTS if name in table.typed.columns):
        for row in rows:
            row[name] = orjson.loads(row[name])
    return rows


def render(table: Table) -> bytes:
    """One line a row."""
    return b"".join(orjson.dumps(row) + b"\n" for row in objects(table))


FORMAT = Format(name="ndjson", suffix="ndjson", media_type="application/x-ndjson", render=render)
