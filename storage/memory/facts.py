"""Facts in memory: the reference every other fact source is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import FACTS, VOIDS
from catalog.ids import SpecId
from rating.ports import EXTREMES, SUMS

NANOS = 1_000_000_000
SUM_LIMIT = 10**18 * NANOS


class MemoryFactSource:
    """Facts and compensations held as two frames.

    Sums are made of Python integers: slow, and exact for whatever is in the frames. It covers
    every spec, so it is its own :class:`rating.ports.SpecPositions`.
    """

    def __init__(self, facts: pl.DataFrame, voids: pl.DataFrame | None = None) -> None:
        self._facts = facts.select(list(FACTS)).cast(FACTS)
        self._voids = VOIDS.to_frame() if voids is None else voids.select(list(VOIDS))

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of ``spans``: see :class:`rating.ports.FactSource`."""
        totals: dict[tuple[int, str], list[int]] = {}
        rows = self.facts(spans, as_of=as_of).select("span", "dimensions", "value").collect()
        for span, dimensions, value in rows.iter_rows():
            total = totals.setdefault((span, dimensions), [0, 0])
            total[0] += _nanos(value)
            total[1] += 1
        for (span, dimensions), (nanos, _) in totals.items():
            if abs(nanos) >= SUM_LIMIT:
                raise OutOfRange(f"the usage of span {span} {dimensions} has over 18 digits")
        return pl.DataFrame(
            [(span, dims, _decimal(nanos), n) for (span, dims), (nanos, n) in totals.items()],
            schema=SUMS,
            orient="row",
        )

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of ``spans``: see :class:`rating.ports.FactSource`."""
        found: dict[tuple[int, str], list[Decimal | None]] = {}
        rows = self.facts(spans, as_of=as_of).select("span", "dimensions", "value").collect()
        for span, dimensions, value in rows.iter_rows():
            found.setdefault((span, dimensions), []).append(value)
        made = []
        for key, values in found.items():
            held = [value for value in values if value is not None]
            total = _decimal(sum(map(_nanos, held)))
            least, most = min(held, default=None), max(held, default=None)
            made.append((*key, total, len(values), len(held), least, most))
        return pl.DataFrame(made, schema=EXTREMES, orient="row")

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span``: see :class:`rating.ports.FactSource`."""
        instant = pl.lit(to_datetime(as_of))
        seen = self._voids.filter(pl.col("received_at") <= instant)
        counted = self._facts.filter(pl.col("received_at") <= instant).join(
            seen, left_on=["node", "seq"], right_on=["target_node", "target_seq"], how="anti"
        )
        named = counted.join(spans.filter(pl.col("subject").is_not_null()), on=["spec", "subject"])
        anyone = counted.join(spans.filter(pl.col("subject").is_null()).drop("subject"), on="spec")
        columns = [*FACTS, "span", "start", "end"]
        return (
            pl.concat([named.select(columns), anyone.select(columns)])
            .filter(pl.col("time") >= pl.col("start"), pl.col("time") < pl.col("end"))
            .drop("start", "end")
            .lazy()
        )

    def covered(self, specs: Sequence[SpecId], *, as_of: Micros) -> bool:
        """Whether facts up to ``as_of`` are here: always."""
        del specs, as_of
        return True


def _nanos(value: Decimal | None) -> int:
    if value is None:
        return 0
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    units = int("".join(map(str, digits))) * int(10 ** (exponent + 9))
    return -units if sign else units


def _decimal(nanos: int) -> Decimal:
    return Decimal((int(nanos < 0), tuple(map(int, str(abs(nanos)))), -9))
