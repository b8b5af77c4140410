"""Facts joined with spans, over any mixture of Parquet scans and frames in memory."""

from __future__ import annotations

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import FACTS
from rating.ports import SUMS

SUM_LIMIT = 10**18
WRAP_LIMIT = 1e29
"""Polars adds Decimal(38, 9) as 128-bit integers and wraps unseen at 1.7e29. A group whose
largest value times its size stays below this cannot have wrapped."""
SUBJECTS_PUSHED_MAX = 64
"""So few subjects are pushed into the scan, where row group statistics skip the rest."""


def compensated(voids: pl.LazyFrame, *, as_of: Micros) -> pl.DataFrame:
    """``node`` and ``seq`` of every event that was void or collapsed by ``as_of``."""
    return (
        voids.filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
        .select(node="target_node", seq="target_seq")
        .unique()
        .collect()
    )


def standing(facts: pl.LazyFrame, gone: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
    """FACTS received up to ``as_of`` whose event is not in ``gone``."""
    received = facts.filter(pl.col("received_at") <= pl.lit(to_datetime(as_of)))
    if gone.is_empty():
        return received
    return received.join(gone.lazy(), on=["node", "seq"], how="anti")


def bounded(facts: pl.LazyFrame, spans: pl.DataFrame) -> pl.LazyFrame:
    """The facts that can be in any of ``spans`` (of one spec), by what file statistics know."""
    earliest, latest = pl.lit(spans["start"].min()), pl.lit(spans["end"].max())
    facts = facts.filter(pl.col("time") >= earliest, pl.col("time") < latest)
    subjects = spans["subject"].unique()
    if subjects.null_count() == 0 and len(subjects) <= SUBJECTS_PUSHED_MAX:
        facts = facts.filter(pl.col("subject").is_in(subjects.to_list()))
    return facts


def in_spans(facts: pl.LazyFrame, spans: pl.DataFrame) -> pl.LazyFrame:
    """FACTS plus ``span``, one row per fact and span that holds it. ``spans`` are of one spec."""
    named = spans.filter(pl.col("subject").is_not_null()).drop("spec").lazy()
    anyone = spans.filter(pl.col("subject").is_null()).drop("subject").lazy()
    columns = [*FACTS, "span", "start", "end"]
    joined = [facts.join(named, on="subject").select(columns)]
    if spans["subject"].null_count():
        joined.append(facts.join(anyone, on="spec").select(columns))
    inside = (pl.col("time") >= pl.col("start")) & (pl.col("time") < pl.col("end"))
    return pl.concat([part.filter(inside) for part in joined]).drop("start", "end")


def sum_spans(facts: pl.LazyFrame) -> pl.DataFrame:
    """SUMS of FACTS plus ``span``.

    Raises:
        OutOfRange: a sum has over 18 integer digits; no wrapped sum is ever returned.
    """
    return within_range(summed(facts))


def summed(facts: pl.LazyFrame) -> pl.DataFrame:
    """SUMS of FACTS plus ``span``, of any size that cannot have wrapped.

    Raises:
        OutOfRange: one may have.
    """
    value = pl.col("value")
    sums = (
        facts.group_by("span", "dimensions")
        .agg(
            sum=value.sum(),
            count=pl.len().cast(pl.Int64),
            low=value.min().cast(pl.Float64),
            high=value.max().cast(pl.Float64),
        )
        .collect(engine="streaming")
    )
    reach = pl.max_horizontal(pl.col("low").abs(), pl.col("high").abs()) * pl.col("count")
    _refuse(sums.filter(reach >= WRAP_LIMIT))
    return sums.select(list(SUMS))


def within_range(sums: pl.DataFrame) -> pl.DataFrame:
    """``sums``, all below 10^18.

    Raises:
        OutOfRange: one is not.
    """
    _refuse(sums.filter(pl.col("sum").abs() >= SUM_LIMIT))
    return sums


def _refuse(beyond: pl.DataFrame) -> None:
    if beyond.height:
        span, dimensions = beyond.select("span", "dimensions").row(0)
        raise OutOfRange(f"the usage of span {span} {dimensions} has over 18 digits")
