"""What rating needs from the outside: facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from catalog.clock import Micros
from catalog.ids import SpecId

SPANS = pl.Schema(
    {
        "span": pl.Int64(),
        "spec": pl.String(),
        "subject": pl.String(),
        "start": pl.Datetime("us", "UTC"),
        "end": pl.Datetime("us", "UTC"),
    }
)
"""What to aggregate: one row per (span, spec, subject). A span is one line's usage before it is
grouped; a customer's subjects are rows of one span. ``[start, end)`` bounds event time. For one
span and subject the intervals do not overlap. ``subject`` null means whoever used it."""

SUMS = pl.Schema(
    {
        "span": pl.Int64(),
        "dimensions": pl.String(),
        "sum": pl.Decimal(38, 9),
        "count": pl.Int64(),
    }
)
"""One row per (span, full dimensions): exact sum of values (nulls are 0), number of facts."""


EXTREMES = pl.Schema(
    {**SUMS, "valued": pl.Int64(), "low": pl.Decimal(38, 9), "high": pl.Decimal(38, 9)}
)
"""SUMS and beside them the number of facts that have a value, the smallest and the largest value
(null for none)."""


class FactSource(Protocol):
    """Facts as they count: neither void nor collapsed as of an instant.

    The readers' positions must have reached ``as_of``; the caller waits for that.
    """

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of SPANS, aggregated where the facts are. Order is not defined.

        Raises:
            OutOfRange: a sum has 18 or more integer digits.
        """
        ...

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of SPANS. As :meth:`sums`, except that a sum may have up to 29 digits."""
        ...

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span`` for every fact in SPANS, received up to ``as_of``."""
        ...


class SpecPositions(Protocol):
    """How far each spec has been extracted."""

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether every node's log up to ``as_of`` is in the facts of all of ``specs``."""
        ...
