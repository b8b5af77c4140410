"""Totals against rating from scratch: what is closed, adjusted and open adds up to what is rated.

The books look only at contracts that were touched since the last close; this looks at all.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from api.checks.report import Check
from catalog.clock import Micros, to_rfc3339
from catalog.errors import DomainError
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.closing import amounts_of
from invoicing.placement import latest_day
from invoicing.view import BEGINNING, BooksView, Scope
from rating.frames import LINES
from rating.pipeline import rate
from rating.ports import FactSource

AHEAD = timedelta(days=4_100)
SUMMED = ("quantity", "amount")


def check_totals(view: BooksView, source: FactSource, catalog: Catalog, *, as_of: Micros) -> Check:
    """Compare line by line, adjustments added to what they adjust.

    Args:
        view: the books with what is open.
        source: the facts, complete up to ``as_of``.
        catalog: of ``as_of``.
        as_of: the instant of both.
    """
    well = Check.well("totals", "books", None, "")
    until = latest_day(catalog, as_of) + AHEAD
    span = PeriodSpec(text="", first=BEGINNING, until=min(until, date(2199, 12, 31)))
    try:
        standing = view.view(Scope(period=span, as_of=as_of)).lines.select(list(LINES))
        rated = rate(catalog, period=span, source=source, as_of=as_of).lines
    except DomainError as error:
        return well.unavailable(error.detail)
    except (OSError, pl.exceptions.PolarsError) as error:  # a store is damaged; its check says so
        return well.unavailable(f"facts cannot be read: {error}")
    found = _first_difference(standing, rated)
    if found is not None:
        return well.differs(None, found)
    said = f"closed + open = {amounts_of(rated)} as rated from scratch at {to_rfc3339(as_of)}"
    return Check.well("totals", "books", None, said)


def _first_difference(standing: pl.DataFrame, rated: pl.DataFrame) -> str | None:
    """The first line that comes to something else, in words."""
    base = standing.with_columns(line_id=pl.coalesce("adjusts", "line_id"))
    ours, theirs = (_sums(frame) for frame in (base, rated))
    both = ours.join(
        theirs, on=["line_id", "currency"], how="full", coalesce=True, suffix="_rated"
    ).with_columns(pl.col(pl.Decimal).fill_null(0))
    changed = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_rated") for name in SUMMED)
    first = both.filter(changed).sort("line_id").head(1)
    if first.is_empty():
        return None
    row = first.row(0, named=True)
    return (
        f"line {row['line_id']} stands at {row['amount']} {row['currency']} for "
        f"{row['quantity']}, rated from scratch it is {row['amount_rated']} for "
        f"{row['quantity_rated']}"
    )


def _sums(lines: pl.DataFrame) -> pl.DataFrame:
    summed = lines.group_by("line_id", "currency").agg(pl.col(name).sum() for name in SUMMED)
    return summed.filter((pl.col("quantity") != 0) | (pl.col("amount") != 0))
