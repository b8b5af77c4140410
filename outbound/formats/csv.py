"""CSV that a spreadsheet can open: numbers as numbers, text never as a formula."""

from __future__ import annotations

from outbound.cells import as_safe_csv
from outbound.formats.base import Format, Table


def render(table: Table) -> bytes:
    """A header line, LF line ends, null as an empty cell."""
    return as_safe_csv(table.text, numbers=table.numbers)


FORMAT = Format(name="csv", suffix="csv", media_type="text/csv; charset=utf-8", render=render)
