"""What is measured of finance: the same lines, amounts and numbers, or no figure."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from statistics import median

from api.worker import COLLECT_AFTER
from bench.finance.deployment import START, Deployment, check_closed, check_issued, fresh
from bench.finance.handing import Handing
from bench.pairing import interleave
from bench.rating.month import Month
from bench.registry import Context, Goal, Measured, Row

TITLE = "Finance"
CONTRACTS, CONTRACTS_QUICK = 100_000, 5_000
EVENTS_A_CONTRACT = 500
LINES, LINES_QUICK = 1_000_000, 200_000
ROUNDS_MAX = 3


def _month(context: Context) -> Month:
    contracts = context.size(CONTRACTS, CONTRACTS_QUICK)
    events = contracts * EVENTS_A_CONTRACT
    month = Month(context=context, events=events, customers=contracts, start=START)
    assert month.source is not None, "cells are made before the clock runs"
    gc.set_threshold(*COLLECT_AFTER)  # as the worker
    return month


def _rounds(context: Context, one: Callable[[Deployment], float]) -> tuple[list[float], Month]:
    month, seconds = _month(context), []
    for number in range(min(context.rounds, ROUNDS_MAX)):
        deployment = fresh(month, context.scratch, f"round-{number}")
        seconds.append(one(deployment))
        deployment.end()
    return seconds, month


def _measured(seconds: list[float], month: Month, method: dict[str, str]) -> Measured:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    behind = (
        f"{month.events:,} events behind {month.customers:,} contracts, as day cells in Parquet "
        "over files of facts (bench/rating/world.py); the month before is closed"
    )
    return Measured(
        unit="s",
        value=median(seconds),
        method={"business": behind, "books": "SQLite, synchronous=FULL"} | method,
        facts={
            "rounds": " ".join(f"{s:.1f}" for s in seconds),
            "memory": f"{peak:.1f} GiB at most, the catalog in it",
        },
    )


def _close(context: Context) -> Measured:
    lines = 0

    def one(deployment: Deployment) -> float:
        nonlocal lines
        seconds, body = deployment.close()
        check_closed(deployment, body)
        lines = body["lines"]
        return seconds

    seconds, month = _rounds(context, one)
    late = "1 contract in 100 had events of closed months arrive, and is compared line by line"
    told = {"lines": f"{lines:,}", "rating": "nothing kept from before the close", "late": late}
    return _measured(seconds, month, told)


def _issue(context: Context) -> Measured:
    def one(deployment: Deployment) -> float:
        _, body = deployment.close()
        seconds, issued = deployment.issue()
        check_issued(deployment, issued, body)
        return seconds

    seconds, month = _rounds(context, one)
    told = {"invoices": f"{month.customers:,}, one a contract, of a closed month; no tax table"}
    return _measured(seconds, month, told)


def _handed(form: str) -> Callable[[Context], Measured]:
    def measure(context: Context) -> Measured:
        given = Handing(context.scratch, context.size(LINES, LINES_QUICK))
        given.check(form)
        paired = interleave(
            lambda _: given.ours(form), lambda _: given.theirs(form), rounds=context.rounds
        )
        ours, theirs = (
            (context.scratch / f"{side}.{form}").stat().st_size / 2**20
            for side in ("ours", "theirs")
        )
        method = {
            "lines": f"{given.count:,} of 18 columns, in memory on both sides",
            "ours": "the checksum that the headers carry (of all of it as CSV), then the stream",
            "files": f"{ours:.0f} MiB against {theirs:.0f} MiB",
        }
        return Measured(unit="lines/s", paired=paired, method=method)

    return measure


ROWS = [
    Row(
        key="finance/close", title="close a month of 100 k contracts, 50 M events behind it",
        against="the clock", goal=Goal(reach=60, stretch=30, at_most=True), measure=_close,
    ),
    Row(
        key="finance/issue", title="issue 100 k invoices", against="the clock",
        goal=Goal(reach=15, stretch=8, at_most=True), measure=_issue,
    ),
    Row(
        key="finance/totals-csv", title="export 1 M lines of totals as CSV",
        against="DuckDB's COPY of the same rows", goal=Goal(reach=0.5), measure=_handed("csv"),
    ),
    Row(
        key="finance/totals-parquet", title="export 1 M lines of totals as Parquet",
        against="DuckDB's COPY of the same rows", goal=Goal(reach=0.5), measure=_handed("parquet"),
    ),
]  # fmt: skip
