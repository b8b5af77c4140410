"""Closing a month: which lines are closed with it, and what the close says."""

from __future__ import annotations

import polars as pl

from catalog.clock import Micros, to_rfc3339
from catalog.errors import Conflict, InvalidRequest
from catalog.money import minor_units
from catalog.periods import PeriodSpec
from invoicing.ports import NewMonth
from invoicing.view import View
from rating.frames import LINES, LineStatus
from rating.rendering import checksum


class PeriodNotEnded(Conflict):
    """The period is still running, somewhere the contracts bill, or in its grace period."""

    code = "period_not_ended"


class EarlierPeriodOpen(Conflict):
    """Months are closed in order, and an earlier one has lines that are open."""

    code = "earlier_period_open"


class NotAMonth(InvalidRequest):
    """Only months are closed."""

    code = "not_a_month"


def month_spec(text: str) -> PeriodSpec:
    """Read ``YYYY-MM``.

    Raises:
        NotAMonth: it is another kind of period.
        InvalidRequest: it is no period.
    """
    spec = PeriodSpec.parse(text)
    if spec.text != f"{spec.first:%Y-%m}":
        raise NotAMonth(f"{text!r} is not a month (YYYY-MM)")
    return spec


def month_to_close(
    view: View, month: PeriodSpec, *, as_of: Micros, watermark: Micros
) -> tuple[NewMonth, pl.DataFrame]:
    """The month as it is to be closed, and the lines that are closed with it (STANDING).

    Args:
        view: everything that counts from the first open month to the end of ``month``, and what is
            closed of ``month`` already.
        month: which.
        as_of: what the lines were rated with.
        watermark: how far the log was.

    Raises:
        EarlierPeriodOpen: a line of an earlier month is open.
    """
    fresh = view.lines.filter(pl.col("sequence").is_null())
    earlier = sorted(fresh.filter(pl.col("accounting_date") < month.first)["accounting_date"])
    if earlier:
        raise EarlierPeriodOpen(f"{earlier[0]:%Y-%m} has open lines: close it first")
    counted = pl.col("accounting_date").is_between(month.first, month.until, closed="left")
    whole = (
        view.lines.filter(counted)
        .select(list(LINES))
        .with_columns(status=pl.lit(LineStatus.CLOSED.value))
    )
    found = checksum(whole)
    facts = {
        "as_of": to_rfc3339(as_of),
        "watermark": to_rfc3339(watermark),
        "lines": whole.height,
        "checksum": found,
        "amounts": amounts_of(whole),
    }
    new = NewMonth(
        month=month.text,
        as_of=as_of,
        facts=facts,
        unsettled=view.unsettled,
        lines=whole.height,
        checksum=found,
    )
    return new, fresh


def amounts_of(lines: pl.DataFrame) -> dict[str, str]:
    """The exact sum of ``amount`` by currency, each with its minor digits."""
    sums = lines.group_by("currency").agg(pl.col("amount").sum()).sort("currency")
    return {
        currency: f"{amount:.{minor_units(currency)}f}" for currency, amount in sums.iter_rows()
    }
