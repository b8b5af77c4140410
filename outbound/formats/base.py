"""What a format is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

Envelope = Mapping[str, object]
"""What is said about the rows beside them: type, timestamp, export, run, after, upto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows to write, typed and (row by row, column by column the same) as text.

    Amounts in ``text`` have their currency's digits, other decimals no trailing zeros.
    """

    typed: pl.DataFrame
    text: pl.DataFrame
    envelope: Envelope

    @property
    def numbers(self) -> frozenset[str]:
        """The columns that hold numbers."""
        schema = self.typed.schema
        return frozenset(name for name, dtype in schema.items() if dtype.is_numeric())


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Turns a table into bytes: the same table, the same bytes.

    Attributes:
        name: as declarations name it.
        suffix: of files.
        media_type: of bodies.
        render: a table to bytes.
        textual: whether the bytes are UTF-8, as signed webhooks need.
    """

    name: str
    suffix: str
    media_type: str
    render: Callable[[Table], bytes]
    textual: bool = True
