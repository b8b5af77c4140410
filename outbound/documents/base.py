"""What a document is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.grammar.nodes import Codec, Fields, Node
from outbound.streams import Batch, Stream

BATCH_MAX = 100_000


def _read_nothing(node: Node) -> None:
    Fields(node).settle()


NO_OPTIONS: Codec[Any] = Codec(_read_nothing, lambda _: {})
"""The options of a document that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Turns a filtered batch into typed rows, the same ones every time.

    Attributes:
        name: as declarations name it.
        columns: what the rows have, in order; a destination may choose, rename and add. Columns
            of AMOUNT are money: ``currency`` must be there beside them.
        rows: the batch's rows, with ``columns``, given the options.
        stream: what it reads, given the options.
        options: how its own ``options`` are read.
        batch_max: positions one delivery may cover.
    """

    name: str
    columns: pl.Schema
    rows: Callable[[Batch, Any], pl.DataFrame]
    stream: Callable[[Any], Stream]
    options: Codec[Any] = NO_OPTIONS
    batch_max: int = BATCH_MAX
