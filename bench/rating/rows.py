"""What is measured of rating: the same exact results on both sides, or no figure."""

from __future__ import annotations

import resource
from collections.abc import Callable

import polars as pl

from bench.pairing import interleave
from bench.rating.month import CUSTOMERS, Month
from bench.rating.tiers import Quantities
from bench.registry import Context, Goal, Measured, Row
from rating.planned import Planning

TITLE = "Rating"
EVENTS, EVENTS_QUICK = 50_000_000, 5_000_000


def _month(context: Context) -> Month:
    month = Month(context=context, events=context.size(EVENTS, EVENTS_QUICK))
    month.check()
    return month


def _method(month: Month) -> dict[str, str | int | float]:
    return {
        "events": f"{month.events:,} of one month, {CUSTOMERS:,} contracts of 5 prices",
        "models": "flat, per unit, graduated, volume, package, matrix; count, sum, max",
        "threads": "2 on both sides, turn by turn",
    }


def _cold(context: Context) -> Measured:
    month = _month(context)
    paired = interleave(
        lambda _: month.cold(), lambda _: month.aggregated(), rounds=min(context.rounds, 5)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = {"memory": f"{peak:.1f} GiB at most, of both sides in one process"}
    return Measured(unit="months/s", paired=paired, method=_method(month), facts=facts)


def _warm(context: Context) -> Measured:
    month, planning = _month(context), Planning()
    month.warm(planning)
    paired = interleave(
        lambda _: month.warm(planning), lambda _: month.cold(), rounds=min(context.rounds, 5)
    )
    return Measured(unit="months/s", paired=paired, method=_method(month))


def _late(context: Context) -> Measured:
    month, planning = _month(context), Planning()
    month.warm(planning)
    paired = interleave(
        lambda _: month.warm(planning),
        lambda _: month.cold(),
        rounds=min(context.rounds, 3),
        prepare=month.late,
    )
    method = _method(month) | {"late": "1 % more a round, over every customer, not in cells yet"}
    return Measured(unit="months/s", paired=paired, method=method)


def _tiers(other: Callable[[Quantities], tuple[float, pl.Series]]) -> Callable[[Context], Measured]:
    def measure(context: Context) -> Measured:
        given = Quantities(1_000_000)
        given.check()
        paired = interleave(
            lambda _: given.count / given.columns()[0],
            lambda _: given.count / other(given)[0],
            rounds=context.rounds,
        )
        method = {"quantities": f"{given.count:,}, half graduated, half volume, 3 tiers"}
        return Measured(unit="quantities/s", paired=paired, method=dict(method))

    return measure


ROWS = [
    Row(
        key="rating/cold", title="rate a month cold", against="DuckDB SQL that only aggregates it",
        goal=Goal(reach=0.8, stretch=1.1), measure=_cold,
    ),
    Row(
        key="rating/warm", title="rate a month warm", against="the same cold",
        goal=Goal(reach=20, stretch=60), measure=_warm,
    ),
    Row(
        key="rating/late", title="rate again after 1 % late events", against="the same cold",
        goal=Goal(reach=20, stretch=50), measure=_late,
    ),
    Row(
        key="rating/tiers-loop", title="price 1 M quantities through tiers",
        against="a Python loop with decimal", goal=Goal(reach=8, stretch=20),
        measure=_tiers(Quantities.loop),
    ),
    Row(
        key="rating/tiers-sql", title="price 1 M quantities through tiers",
        against="DuckDB SQL", goal=Goal(reach=1, stretch=1.5), measure=_tiers(Quantities.sql),
    ),
]  # fmt: skip
