"""Reports over lines: revenue by day, product and customer; what is unbilled; adjustments.

Every sum is exact, and those of one report over the same lines agree, whichever way they are cut.
"""

from __future__ import annotations

from enum import StrEnum
from zoneinfo import ZoneInfo

import polars as pl

from rating.frames import AMOUNT, LINES, LineKind, LineStatus
from rating.rounding import from_millionths, minor_steps, nearest_whole

REPORTED = pl.Schema({**LINES, "accounting_date": pl.Date()})
"""LINES with the day each counts on: what reports are made of."""

SPREAD = pl.Schema(
    {
        "line_id": pl.String(),
        "status": pl.String(),
        "currency": pl.String(),
        "day": pl.Date(),
        "amount": AMOUNT,
    }
)
"""One row a line and day."""

SPREAD_LINES = 20_000
"""Lines spread at a time: a month of them is some 600,000 rows."""
DAYS_MAX = 3_700
"""A line over more days than these counts on its accounting date."""


class By(StrEnum):
    """What revenue is cut by.

    ``day`` spreads a line over the days of its period, evenly, to the minor unit;
    ``accounting_date`` leaves it whole on the day it counts on.
    """

    DAY = "day"
    ACCOUNTING_DATE = "accounting_date"
    PRODUCT = "product"
    CUSTOMER = "customer"


def revenue(lines: pl.DataFrame, by: By, *, timezone: ZoneInfo) -> pl.DataFrame:
    """One row per key and currency: ``closed``, ``open``, their sum ``amount``, and ``lines``.

    Args:
        lines: REPORTED.
        by: names the key's column. Lines of a whole contract have no product.
        timezone: whose days a period is spread over.
    """
    if by is not By.DAY:
        return _sums(lines, by).sort(by.value, "currency", nulls_last=False)
    parts = [_sums(_spread(part, timezone), by) for part in lines.iter_slices(SPREAD_LINES)]
    cut = pl.concat([_sums(SPREAD.to_frame(), by), *parts])
    return cut.group_by(by.value, "currency").agg(pl.all().sum()).sort(by.value, "currency")


def _sums(rows: pl.DataFrame, by: By) -> pl.DataFrame:
    """What :func:`revenue` tells, unsorted."""
    amounts = {
        status: pl.col("amount").filter(pl.col("status") == status).sum().alias(status)
        for status in (LineStatus.CLOSED.value, LineStatus.OPEN.value)
    }
    return rows.group_by(by.value, "currency").agg(
        *amounts.values(),
        amount=pl.col("amount").sum(),
        lines=pl.col("line_id").n_unique().cast(pl.Int64),
    )


def unbilled(lines: pl.DataFrame, *, invoiced: frozenset[str]) -> pl.DataFrame:
    """One row per customer and currency of what is on no standing invoice.

    Args:
        lines: REPORTED.
        invoiced: the ids of the lines that are.
    """
    waiting = lines.filter(~pl.col("line_id").is_in(list(invoiced)))
    return revenue(waiting, By.CUSTOMER, timezone=ZoneInfo("UTC"))


def adjustments(lines: pl.DataFrame) -> pl.DataFrame:
    """The adjustment lines among REPORTED, in their order."""
    return lines.filter(pl.col("kind") == LineKind.ADJUSTMENT.value)


def _spread(lines: pl.DataFrame, timezone: ZoneInfo) -> pl.DataFrame:
    """One row per line and local day of its period; a line's days add up to it exactly.

    What has accrued by the end of each day is rounded, half away from zero, and the day gets the
    difference.
    """
    dated = _with_days(lines, timezone).with_columns(step=minor_steps(lines))
    even = pl.col("days").is_between(1, DAYS_MAX)
    whole = dated.filter(~even).with_columns(day="accounting_date")
    units = pl.col("amount").to_physical() // pl.col("step")
    number, days = pl.col("number").cast(pl.Int128), pl.col("days").cast(pl.Int128)
    accrued, before = (nearest_whole(pl.col("units") * upto, days) for upto in (number, number - 1))
    daily = (
        dated.filter(even)
        .with_columns(units=units, number=pl.int_ranges(1, pl.col("days") + 1))
        .explode("number")
        .with_columns(share=accrued - before)
        .filter(pl.col("share") != 0)
        .with_columns(
            day=pl.col("first") + pl.duration(days=pl.col("number") - 1),
            amount=from_millionths(pl.col("share") * pl.col("step")),
        )
    )
    return pl.concat([_shaped(whole), _shaped(daily)])


def _shaped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SPREAD.items())


def _with_days(lines: pl.DataFrame, timezone: ZoneInfo) -> pl.DataFrame:
    """The first local day of each line's period, and how many days it touches (0: endless)."""
    zone = timezone.key
    start = pl.col("period_start").dt.convert_time_zone(zone).dt.date()
    last = (pl.col("period_end") - pl.duration(microseconds=1)).dt.convert_time_zone(zone).dt.date()
    days = (last - start).dt.total_days() + 1
    return lines.with_columns(first=start, days=days.fill_null(0))
