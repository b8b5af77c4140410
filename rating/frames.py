"""The frames that rating hands out and passes between its steps, each with a named schema."""

from __future__ import annotations

from enum import StrEnum

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
QUANTITY = pl.Decimal(38, 9)
AMOUNT = pl.Decimal(38, 6)


class LineKind(StrEnum):
    """What a line bills."""

    USAGE = "usage"
    FIXED = "fixed"
    MINIMUM = "minimum"
    COMMITMENT = "commitment"
    CREDIT = "credit"
    DISCOUNT = "discount"
    ADJUSTMENT = "adjustment"


class LineStatus(StrEnum):
    """Whether a line may still change."""

    OPEN = "open"
    CLOSED = "closed"


LINES = pl.Schema(
    {
        "line_id": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "product": pl.String(),
        "meter": pl.String(),
        "dimensions": pl.String(),
        "timing": pl.String(),
        "period_start": INSTANT,
        "period_end": INSTANT,
        "currency": pl.String(),
        "quantity": QUANTITY,
        "amount": AMOUNT,
        "kind": pl.String(),
        "status": pl.String(),
        "adjusts": pl.String(),
        "cause": pl.String(),
        "event_count": pl.Int64(),
        "price_version": pl.String(),
    }
)
"""One row a line: what one contract owes for one price, billing period (or part) and group.

``line_id`` is stable: it says what the line is, not what it amounts to. ``meter`` is null where
the quantity is not metered; ``product`` is null only for lines of a whole contract.
``dimensions`` is the group as FACTS write dimensions ("{}" without ``group_by``). ``quantity`` is
as metered, rounded to 9 decimals where the exact one has more (an average); the amount is not
made from the rounded one. ``amount`` is rounded once, to the currency's minor units; the column
has 6 decimals so that it holds every currency. ``period_end`` is null for a period without end.
``status`` is ``open``; ``adjusts`` and ``cause`` are null: closing is downstream.
"""

BILLING = pl.Schema(
    {
        "line_id": pl.String(),
        "billing_start": INSTANT,
        "billing_end": INSTANT,
        "accounting_date": pl.Date(),
    }
)
"""Where a line is due, one row a line: the whole billing period that its own is (a part of), and
the day it counts on. Lines of one contract, timing and billing period share an invoice."""

LINES_ORDER = (
    "customer",
    "contract",
    "period_start",
    "product",
    "kind",
    "dimensions",
    "line_id",
)
"""The order of lines wherever they are shown; bytewise, null products first."""


def sorted_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """``lines`` in the one order of :data:`LINES_ORDER`."""
    return lines.sort(*LINES_ORDER, nulls_last=False)
