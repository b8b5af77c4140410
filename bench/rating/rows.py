"""What is measured of rating: the same exact results on both sides, or no figure."""

from __future__ import annotations

import resource
from collections.abc import Callable

import polars as pl

from bench.pairing import interleave
from bench.rating.bframe import METHOD, PlainMonth, check_same, running_bframe
from bench.rating.memory import peaks
from bench.rating.month import CUSTOMERS, Month
from bench.rating.over_http import measure_current
from bench.rating.tiers import Quantities
from bench.rating.whatif import Tried
from bench.registry import Context, Goal, Measured, Row
from rating.planned import Planning
from rating.rater import Rater

TITLE = "Rating"
EVENTS, EVENTS_QUICK = 50_000_000, 5_000_000
CUSTOMERS_ASKED, WARMING = 420, 20


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


def _curve(context: Context) -> Measured:
    """The same contracts behind once, twice and four times the events: what warm rating costs."""
    most = context.size(EVENTS, EVENTS_QUICK)
    months = [Month(context=context, events=most // share) for share in (4, 2, 1)]
    plannings = [Planning() for _ in months]
    for month, planning in zip(months, plannings, strict=True):
        month.check()
        month.warm(planning)
    middle = [months[1].warm(plannings[1]) for _ in range(3)]
    paired = interleave(
        lambda _: months[2].warm(plannings[2]),
        lambda _: months[0].warm(plannings[0]),
        rounds=min(context.rounds, 5),
    )
    method = _method(months[2]) | {"against": f"{months[0].events:,} events, the same contracts"}
    seen = {"in between": f"{months[1].events:,} events: {sorted(middle)[1]:.3g} months/s"}
    return Measured(unit="months/s", paired=paired, method=method, facts=seen)


def _customer(context: Context) -> Measured:
    month, rater = _month(context), Rater()
    taken_ms = [month.customer(rater, number) for number in range(CUSTOMERS_ASKED)][WARMING:]
    taken_ms.sort()
    method = _method(month) | {
        "asked": f"{len(taken_ms)} customers once each, one by one, as of instants of their own",
        "where": "in the worker's process: without HTTP, relay and the wait for readers",
    }
    facts = {"median": f"{taken_ms[len(taken_ms) // 2]:.1f} ms"}
    worst = taken_ms[len(taken_ms) * 99 // 100]
    return Measured(unit="ms, p99", value=worst, method=method, facts=facts)


def _simulate(context: Context) -> Measured:
    tried = Tried(_month(context))
    tried.check()
    taken_ms = sorted(tried.compared(number)[0] for number in range(context.rounds))
    method = _method(tried.month) | {
        "patch": "another price of calls in all 4 books: every contract is rated again; a new "
        "patch and a new instant each time",
        "timed": "patch to differences by customer and product, in the worker's process",
    }
    return Measured(
        unit="ms, median",
        value=taken_ms[len(taken_ms) // 2],
        method=method,
        facts={"max": f"{taken_ms[-1]:.0f} ms"},
    )


def _memory(context: Context) -> Measured:
    month = Month(context=context, events=context.size(EVENTS, EVENTS_QUICK))
    before, after = peaks(month)
    facts = {"before": f"{before:.2f} GiB with the catalog, before anything was rated"}
    method = _method(month) | {"process": "one of its own that rates the month cold, once"}
    return Measured(unit="GiB", value=after, method=method, facts=facts)


def _bframe(*, warm: bool) -> Callable[[Context], Measured]:
    def measure(context: Context) -> Measured:
        month = PlainMonth(context=context, events=context.size(5_000_000, 1_000_000))
        scratch, cache = context.scratch, context.cache / "bframe"
        with running_bframe(month, cache=cache, scratch=scratch) as bframe:
            check_same(month, bframe.invoiced()[1])
            paired = interleave(
                lambda _: 1 / month.invoiced(warm=warm)[0],
                lambda _: 1 / bframe.invoiced()[0],
                rounds=min(context.rounds, 5),
            )
        return Measured(
            unit="months/s", paired=paired, method={"events": f"{month.events:,}"} | METHOD
        )

    return measure


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
        key="rating/curve", title="rate a month warm, 4 × the events",
        against="the same contracts, a quarter of the events",
        goal=Goal(reach=0.8, stretch=0.95), measure=_curve,
    ),
    Row(
        key="rating/memory", title="memory of rating a month cold", against="resident at most",
        goal=Goal(reach=2, stretch=1, at_most=True), measure=_memory,
    ),
    Row(
        key="rating/simulate-warm", title="10 k contracts under other prices, warm",
        against="wall clock", goal=Goal(reach=1_000, stretch=300, at_most=True),
        measure=_simulate,
    ),
    Row(
        key="rating/customer", title="one customer's current totals, in process",
        against="wall clock", goal=Goal(reach=50, stretch=15, at_most=True), measure=_customer,
    ),
    Row(
        key="rating/current", title="one customer's current totals over HTTP",
        against="wall clock", goal=Goal(reach=50, stretch=15, at_most=True),
        measure=measure_current,
    ),
    Row(
        key="rating/bframe-cold", title="5 M events, 10 k contracts to invoices, cold",
        against="bframelib producing its invoices", goal=Goal(reach=8, stretch=12),
        measure=_bframe(warm=False),
    ),
    Row(
        key="rating/bframe-warm", title="5 M events, 10 k contracts to invoices, warm",
        against="bframelib producing its invoices", goal=Goal(reach=40, stretch=100),
        measure=_bframe(warm=True),
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
