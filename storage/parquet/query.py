"""Facts and spans together, over any mixture of Parquet scans and frames in memory."""

from __future__ import annotations

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import FACTS
from rating.ports import EXTREMES, SUMS
from storage.parquet.totals import FACTS_MAX

SUM_LIMIT = 10**18
WRAP_LIMIT = 1e29
"""Polars adds Decimal(38, 9) as 128-bit integers and wraps unseen at 1.7e29. Parts of a sum whose
largest times their number stays below this cannot have wrapped."""
SUBJECTS_PUSHED_MAX = 64
"""So few subjects are pushed into the scan, where row group statistics skip the rest."""
EDGES_MAX = 256
"""With so many distinct bounds or fewer, facts are added up before they are joined with spans."""


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
    subjects = pushed(spans)
    return facts if subjects is None else facts.filter(pl.col("subject").is_in(subjects))


def pushed(spans: pl.DataFrame) -> list[str] | None:
    """The subjects of ``spans`` where they are few enough to look for; null for all."""
    subjects = spans["subject"].unique()
    few = subjects.null_count() == 0 and len(subjects) <= SUBJECTS_PUSHED_MAX
    return subjects.to_list() if few else None


def edges_of(spans: pl.DataFrame) -> pl.Series:
    """Every instant (µs) at which a span begins or ends, in order."""
    return pl.concat([spans["start"], spans["end"]]).unique().sort().to_physical()


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


def met(sums: pl.DataFrame, spans: pl.DataFrame, edges: pl.Series) -> pl.DataFrame:
    """``sums`` with the ``span`` that each is in: as many rows as spans hold it."""
    bounds = {
        "low_piece": edges.search_sorted(spans["start"].to_physical()) + 1,
        "high_piece": edges.search_sorted(spans["end"].to_physical()),
    }
    asked = spans.select("span", "subject").with_columns(
        pl.Series(name, places, dtype=pl.Int32) for name, places in bounds.items()
    )
    named = asked.filter(pl.col("subject").is_not_null())
    joined = [sums.join(named, on="subject").drop("subject")]
    if named.height < asked.height:
        anyone = asked.filter(pl.col("subject").is_null()).drop("subject")
        joined.append(sums.drop("subject").join(anyone, how="cross").select(joined[0].columns))
    return pl.concat(joined).filter(pl.col("piece").is_between("low_piece", "high_piece"))


def summed(facts: pl.LazyFrame, keys: tuple[str, ...], *, extremes: bool) -> pl.DataFrame:
    """Sum and count of facts by ``keys`` (and what EXTREMES say more), of any size.

    Raises:
        OutOfRange: a sum may have.
    """
    value = pl.col("value")
    wanted = {"sum": value.sum(), "count": pl.len().cast(pl.Int64)}
    if extremes:
        valued = value.count().cast(pl.Int64)
        wanted |= {"valued": valued, "low": value.min(), "high": value.max()}
    sums = facts.group_by(keys).agg(**wanted).collect(engine="streaming")
    if sums.filter(pl.col("count") >= FACTS_MAX).height:
        raise OutOfRange("the usage of a line has over 18 digits")
    return sums


def combined(parts: pl.DataFrame) -> pl.DataFrame:
    """EXTREMES (else SUMS) of rows that each hold a part of a span and its dimensions.

    No count is 0 or less.

    Raises:
        OutOfRange: a sum has 29 digits or more, so that it may have wrapped.
    """
    more = [pl.col("valued").sum(), pl.col("low").min(), pl.col("high").max()]
    extremes = "low" in parts.columns
    # One text in all rows is no key: a group of numbers takes a tenth of the time.
    alike = parts.height > 0 and parts["dimensions"].n_unique() == 1
    text = [pl.col("dimensions").first()] if alike else []
    sums = parts.group_by(["span"] if alike else ["span", "dimensions"]).agg(
        pl.col("sum", "count").sum(),
        *text,
        *(more if extremes else ()),
        reach=pl.col("sum").abs().max().cast(pl.Float64) * pl.len(),
    )
    if sums.filter(pl.col("reach") >= WRAP_LIMIT).height:
        raise OutOfRange("the usage of a line has over 18 digits")
    return sums.filter(pl.col("count") > 0).select(list(EXTREMES if extremes else SUMS))


def within_range(sums: pl.DataFrame) -> pl.DataFrame:
    """``sums``, all below 10^18.

    Raises:
        OutOfRange: one is not; a wrapped one is never returned.
    """
    beyond = sums.filter(pl.col("sum").abs() >= SUM_LIMIT)
    if beyond.height:
        span, dimensions = beyond.select("span", "dimensions").row(0)
        raise OutOfRange(f"the usage of span {span} {dimensions} has over 18 digits")
    return sums
