"""Reports over lines: revenue by day, product and customer; what is unbilled; adjustments.

Every sum is exact, and those of one report over the same lines agree, whichever way they are cut.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

import polars as pl

from catalog.money import from_units, minor_units, nearest
from rating.frames import AMOUNT, LINES, LineKind, LineStatus

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
    rows = _spread(lines, timezone) if by is By.DAY else lines
    amounts = {
        status: pl.col("amount").filter(pl.col("status") == status).sum().alias(status)
        for status in (LineStatus.CLOSED.value, LineStatus.OPEN.value)
    }
    return (
        rows.group_by(by.value, "currency")
        .agg(
            *amounts.values(),
            amount=pl.col("amount").sum(),
            lines=pl.col("line_id").n_unique().cast(pl.Int64),
        )
        .sort(by.value, "currency", nulls_last=False)
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
    found: list[tuple[str, str, str, date, Decimal]] = []
    columns = ("line_id", "status", "currency", "amount", "accounting_date")
    for *kept, first, days in _with_days(lines, timezone).select(*columns, "first", "days").rows():
        line, status, currency, amount, on = kept
        if not 1 <= days <= DAYS_MAX:
            found.append((line, status, currency, on, amount))
            continue
        digits = minor_units(currency)
        units = int(amount.scaleb(digits))
        given = 0
        for number in range(1, days + 1):
            accrued = nearest(units * number, days)
            day = date.fromordinal(first.toordinal() + number - 1)
            if accrued != given:
                found.append((line, status, currency, day, from_units(accrued - given, digits)))
            given = accrued
    return pl.DataFrame(found, schema=SPREAD, orient="row")


def _with_days(lines: pl.DataFrame, timezone: ZoneInfo) -> pl.DataFrame:
    """The first local day of each line's period, and how many days it touches (0: endless)."""
    zone = timezone.key
    start = pl.col("period_start").dt.convert_time_zone(zone).dt.date()
    last = (pl.col("period_end") - pl.duration(microseconds=1)).dt.convert_time_zone(zone).dt.date()
    days = (last - start).dt.total_days() + 1
    return lines.with_columns(first=start, days=days.fill_null(0))
