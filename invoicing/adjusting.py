"""From differences to adjustment lines: what they were closed with, and where they go."""

from __future__ import annotations

import hashlib

import polars as pl

from catalog.clock import EVER, to_datetime
from catalog.snapshot import Catalog
from invoicing.adjustments import DIFFERENCES
from invoicing.documents import Payers
from invoicing.placement import Place, Placement
from invoicing.ports import BooksState
from rating.frames import INSTANT, LineKind


def closing_instants(found: pl.DataFrame, closed: pl.DataFrame, state: BooksState) -> pl.Expr:
    """What a line was closed with: its own instant, else its billing period's or month's."""
    instants = {month.month: to_datetime(month.as_of) for month in state.months}
    earliest = [m.as_of for m in state.months[:1]] + [state.first_issue or EVER]
    same = closed.group_by("contract", "timing", "billing_start").agg(pl.col("as_of").max())
    near = found.select("contract", "timing", "billing_start").join(
        same, on=["contract", "timing", "billing_start"], how="left", maintain_order="left"
    )["as_of"]
    month = pl.col("accounting_date").dt.strftime("%Y-%m")
    by_month = month.replace_strict(instants, default=None, return_dtype=INSTANT)
    first = pl.lit(to_datetime(min(earliest)), INSTANT)
    return pl.coalesce("closed_as_of", by_month, near, first).alias("closed_as_of")


def placed_adjustments(
    found: pl.DataFrame,
    issued: frozenset[str],
    *,
    catalog: Catalog,
    payers: Payers,
    state: BooksState,
) -> pl.DataFrame:
    """DIFFERENCES as open adjustment lines in the billing periods that take them.

    Args:
        found: what is to be adjusted, with causes.
        issued: documents ever issued.
        catalog: whose billing periods.
        payers: whose documents.
        state: which months are closed.
    """
    billed = {row["contract"]: row for row in found.unique("contract").iter_rows(named=True)}

    def is_open(contract: str, timing: str, place: Place) -> bool:
        line = billed[contract] | {
            "timing": timing,
            "billing_start": place.billing_start,
            "billing_end": place.billing_end,
            "accounting_date": place.accounting_date,
        }
        return payers.document(line) not in issued

    placement = Placement(catalog, first_open=state.closed_until, is_open=is_open)
    earliest = found.group_by("contract", "timing").agg(pl.col("accounting_date").min())
    places = placement.find(earliest.rows())
    rows = [_adjustment(row, places) for row in found.iter_rows(named=True)]
    return pl.DataFrame(rows, schema=DIFFERENCES, orient="row").drop("closed_as_of")


def _adjustment(row: dict[str, object], places: dict[tuple[str, str], Place]) -> dict[str, object]:
    contract = str(row["contract"])
    place = places[contract, str(row["timing"])]
    parts = ("adjustment", row["adjusts"], row["currency"], place.billing_start, place.billing_end)
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()
    return row | {
        "line_id": f"{contract}~{place.billing_start:%Y%m%d}~{digest[:20]}",
        "kind": LineKind.ADJUSTMENT.value,
        "period_start": place.billing_start,
        "period_end": place.billing_end,
        "billing_start": place.billing_start,
        "billing_end": place.billing_end,
        "accounting_date": place.accounting_date,
    }
