"""Time-weighted sums: what was there, weighted by how long, carried over from before.

An event changes a level by its value, from its time on. The quantity of a line is the average level
over its whole billing period (so the parts of a split period add up to it): the sum over events of
value × the share of the period from the event to the end of the line. Events of earlier periods
count too, whenever they were: what is stored stays until it is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from catalog.clock import EPOCH, Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.ids import CustomerId
from rating.claims import Claim
from rating.plan import LinePlan
from rating.ports import SPANS, FactSource
from rating.probes import Probe

LEVELS = pl.Schema(
    {
        "span": pl.Int64(),
        "dimensions": pl.String(),
        "whole_units": pl.Int128(),
        "nanos": pl.Int128(),
        "micros": pl.Int64(),
        "count": pl.Int64(),
    }
)
"""One row per (probe, full dimensions): Σ value × µs is ``whole_units`` + ``nanos`` ÷ 10^9, to be
divided by ``micros``, the length of the billing period. ``span`` is the probe; ``count`` are
the events in the line itself."""

WRAP_LIMIT = 2**126
"""Sums of 128-bit integers wrap unseen at 2^127."""
_NANOS = 10**9


def weighted_sums(
    probes: Sequence[tuple[int, Probe]],
    plans: Sequence[LinePlan],
    claims: Callable[[CustomerId], Sequence[Claim]],
    source: FactSource,
    *,
    as_of: Micros,
) -> pl.DataFrame:
    """LEVELS of the numbered ``probes``.

    Raises:
        OutOfRange: a sum that does not fit 128 bits; never a wrapped one.
    """
    spans = _stretches(probes, plans, claims)
    own = source.facts(_asked(spans, "start", "end"), as_of=as_of).collect()
    before = spans.with_columns(start=pl.lit(EPOCH, SPANS["start"]), end=pl.col("start"))
    carried = source.facts(_asked(before, "start", "end"), as_of=as_of).collect()
    weights = spans.select("span", "probe", "micros", "start", "end")
    inside = own.join(weights, on="span").with_columns(
        weight=(pl.col("end") - pl.col("time")).dt.total_microseconds(), count=1
    )
    earlier = carried.join(weights, on="span").with_columns(
        weight=(pl.col("end") - pl.col("start")).dt.total_microseconds(), count=0
    )
    return _levels(pl.concat([inside, earlier]))


def _stretches(
    probes: Sequence[tuple[int, Probe]],
    plans: Sequence[LinePlan],
    claims: Callable[[CustomerId], Sequence[Claim]],
) -> pl.DataFrame:
    """One row a claim of a probe, numbered: the stretch over which its level counts."""
    rows: list[tuple[object, ...]] = []
    for index, probe in probes:
        plan = plans[probe.line]
        micros = plan.period.whole_end - plan.period.whole_start
        for claim in claims(plan.customer):
            start, end = max(probe.start, claim.start), min(probe.end, claim.end)
            if start < end:
                moments = to_datetime(start), to_datetime(end)
                rows.append((len(rows), index, probe.reads, claim.subject, *moments, micros))
    schema = {**SPANS, "micros": pl.Int64()}
    names = ("span", "probe", "spec", "subject", "start", "end", "micros")
    typed = {name: schema.get(name, pl.Int64()) for name in names}
    return pl.DataFrame(rows, schema=typed, orient="row")


def _asked(spans: pl.DataFrame, start: str, end: str) -> pl.DataFrame:
    return spans.select(
        "span", "spec", "subject", pl.col(start).alias("start"), pl.col(end).alias("end")
    )


def _levels(facts: pl.DataFrame) -> pl.DataFrame:
    """Exact: whole units and the rest are added up apart, as 128-bit integers."""
    nanos = pl.col("value").fill_null(0).to_physical()
    whole = nanos // _NANOS
    weight = pl.col("weight").cast(pl.Int128)
    sums = facts.group_by("probe", "dimensions", "micros").agg(
        whole_units=(whole * weight).sum(),
        nanos=((nanos - whole * _NANOS) * weight).sum(),
        count=pl.col("count").sum().cast(pl.Int64),
        largest=whole.abs().max(),
        longest=pl.col("weight").max(),
        number=pl.len(),
    )
    for largest, longest, number in sums.select("largest", "longest", "number").iter_rows():
        if (largest + 1) * longest * number >= WRAP_LIMIT:
            raise OutOfRange("a time-weighted sum has more digits than are kept")
    return sums.rename({"probe": "span"}).select(
        pl.col(name).cast(dtype) for name, dtype in LEVELS.items()
    )
