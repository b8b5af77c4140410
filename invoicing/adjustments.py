"""What closed lines would come to today, and the signed differences."""

from __future__ import annotations

import polars as pl

from rating.frames import AMOUNT, BILLING, LINES, QUANTITY

SUMMED = ("quantity", "amount", "event_count")

DIFFERENCES = pl.Schema(
    {
        **LINES,
        "billing_start": BILLING["billing_start"],
        "billing_end": BILLING["billing_end"],
        "accounting_date": BILLING["accounting_date"],
        "closed_as_of": pl.Datetime("us", "UTC"),
    }
)
"""One row a closed line that would be another today: ``line_id``, period and billing are those of
the line adjusted; quantity, amount and event_count are what is to be added to what is closed for
it, signed. ``closed_as_of`` is what the closed part was last rated with (null: nothing of it is
closed, only its document or month)."""

_NAMES = (*LINES, *BILLING)
_DESCRIBED = tuple(
    name
    for name in dict.fromkeys(_NAMES)
    if name not in {*SUMMED, "line_id", "currency", "status", "adjusts", "cause"}
)


def identities(closed: pl.DataFrame) -> pl.Series:
    """The ids of every line of which something is closed, the line itself or an adjustment."""
    both = [closed["line_id"], closed["adjusts"].drop_nulls()]
    return pl.concat(both).unique().alias("line_id")


def differences(rated: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """DIFFERENCES between what lines come to and what is closed for them.

    Args:
        rated: LINES and BILLING of every line that is closed, in a closed month or on an issued
            document; a closed line that is not among them comes to nothing now.
        closed: CLOSED of the same contracts, all of it.
    """
    base = closed.with_columns(line_id=pl.coalesce("adjusts", "line_id"))
    sums = base.group_by("line_id", "currency").agg(
        *(pl.col(name).sum() for name in SUMMED), closed_as_of=pl.col("as_of").max()
    )
    originals = base.sort("sequence").unique(["line_id", "currency"], keep="first")
    described = originals.select("line_id", "currency", *_DESCRIBED)
    before = sums.join(described, on=["line_id", "currency"], how="left")
    now = rated.select("line_id", "currency", *SUMMED, *_DESCRIBED)
    both = now.join(before, on=["line_id", "currency"], how="full", coalesce=True, suffix="_closed")
    changed = both.with_columns(_change(name) for name in SUMMED).filter(
        (pl.col("quantity") != 0) | (pl.col("amount") != 0)
    )
    told = changed.with_columns(_as_closed(name) for name in _DESCRIBED).with_columns(
        status=pl.lit("open"), adjusts=pl.col("line_id"), cause=pl.lit(None, pl.String)
    )
    return told.select(pl.col(name).cast(dtype) for name, dtype in DIFFERENCES.items())


def _change(name: str) -> pl.Expr:
    dtype = {"quantity": QUANTITY, "amount": AMOUNT}.get(name, pl.Int64())
    now = pl.col(name).cast(dtype).fill_null(0)
    return (now - pl.col(f"{name}_closed").cast(dtype).fill_null(0)).alias(name)


def _as_closed(name: str) -> pl.Expr:
    """What the closed line says of itself; the price version is the one that holds now."""
    if name == "price_version":
        return pl.coalesce(name, f"{name}_closed").alias(name)
    known = pl.col("contract_closed").is_not_null()
    return pl.when(known).then(pl.col(f"{name}_closed")).otherwise(pl.col(name)).alias(name)
