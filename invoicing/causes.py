"""Why a closed line would be another today: late, void, reprice or claimed.

The line is rated once more with today's events under the catalog it was closed with. If that
differs from what is closed, events came or went; if not, the catalog changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

import polars as pl

from catalog.clock import Micros, to_micros
from catalog.errors import DomainError
from catalog.ids import CustomerId
from catalog.snapshot import Catalog
from invoicing.adjustments import differences
from rating.claims import claims_of
from rating.engine import ENGINE


class Cause(StrEnum):
    """What changed a closed line."""

    LATE = "late"
    VOID = "void"
    REPRICE = "reprice"
    CLAIMED = "claimed"


CatalogAt = Callable[[Micros], Catalog]
Rerate = Callable[[Catalog, list[str]], pl.DataFrame]
"""Rates contracts under a catalog with the events known now: LINES and BILLING, as far as they are
closed or in closed billing periods."""
AsWas = Callable[[Micros, list[str]], pl.DataFrame]
"""Rates contracts as :data:`Rerate` does, with the catalog and the events known at an instant."""


def with_causes(
    found: pl.DataFrame,
    closed: pl.DataFrame,
    *,
    now: Catalog,
    catalog_at: CatalogAt,
    rerate: Rerate,
    as_was: AsWas,
) -> pl.DataFrame:
    """DIFFERENCES with their ``cause``.

    Args:
        found: DIFFERENCES; null ``closed_as_of`` has been filled with its period's.
        closed: CLOSED of their contracts.
        now: the catalog they were found with.
        catalog_at: the catalog as recorded at an instant.
        rerate: how to rate under another catalog.
        as_was: how to rate again what an earlier engine closed, which may have counted otherwise.
    """
    parts = []
    judged = _with_events(found, closed, rerate=lambda names: rerate(now, names), as_was=as_was)
    for then, part in _by_revision(judged, catalog_at):
        causes = _events(part)
        if then.revision != now.revision:
            causes = _decided(part, closed, then, now, rerate)
        parts.append(part.with_columns(pl.Series("cause", causes, dtype=pl.String())))
    return pl.concat(parts).drop("events") if parts else found


def _with_events(
    found: pl.DataFrame,
    closed: pl.DataFrame,
    *,
    rerate: Callable[[list[str]], pl.DataFrame],
    as_was: AsWas,
) -> pl.DataFrame:
    """DIFFERENCES and ``events``: how many came (or went), as this engine counts them.

    What an earlier one closed is rated once more as of then: its own count is no measure.
    """
    told = found.with_columns(events=pl.col("event_count"))
    earlier = closed.filter(pl.col("engine") != ENGINE)
    names = earlier.select(pl.coalesce("adjusts", "line_id").unique()).to_series()
    own = pl.col("line_id").is_in(names.implode())
    parts = [told.filter(~own)]
    for (instant,), part in told.filter(own).partition_by("closed_as_of", as_dict=True).items():
        parts.append(_counted_alike(part, to_micros(instant), rerate, as_was))
    return pl.concat(parts).sort("line_id", "currency")


def _counted_alike(
    part: pl.DataFrame,
    instant: Micros,
    rerate: Callable[[list[str]], pl.DataFrame],
    as_was: AsWas,
) -> pl.DataFrame:
    contracts = part["contract"].unique().to_list()
    try:
        now, then = rerate(contracts), as_was(instant, contracts)
    except DomainError:  # it cannot be priced as it was then: what was closed has to do
        return part
    key = ["line_id", "currency"]
    counts = [
        frame.group_by(key).agg(pl.col("event_count").sum().alias(name))
        for name, frame in (("now", now), ("then", then))
    ]
    for frame in counts:
        part = part.join(frame, on=key, how="left", maintain_order="left")
    came = pl.col("now").fill_null(0) - pl.col("then").fill_null(0)
    return part.with_columns(events=came.cast(pl.Int64)).drop("now", "then")


def _by_revision(
    found: pl.DataFrame, catalog_at: CatalogAt
) -> Iterator[tuple[Catalog, pl.DataFrame]]:
    """The differences by the catalog that their lines were closed with."""
    instants = found["closed_as_of"].unique().to_list()
    catalogs = {instant: catalog_at(to_micros(instant)) for instant in instants}
    revisions: dict[int, Catalog] = {c.revision: c for c in catalogs.values()}
    for revision, then in sorted(revisions.items()):
        mine = [instant for instant, c in catalogs.items() if c.revision == revision]
        yield then, found.filter(pl.col("closed_as_of").is_in(mine))


def _events(part: pl.DataFrame) -> list[str]:
    """Late or void, by whether events came or went: of the line, else of its contract."""
    went = part.group_by("contract", "billing_start").agg(net=pl.col("events").sum())
    counted = part.join(went, on=["contract", "billing_start"], how="left", maintain_order="left")
    net = pl.when(pl.col("events") != 0).then("events").otherwise("net")
    named = pl.when(net < 0).then(pl.lit(Cause.VOID.value)).otherwise(pl.lit(Cause.LATE.value))
    return counted.select(named).to_series().to_list()


def _decided(
    part: pl.DataFrame, closed: pl.DataFrame, then: Catalog, now: Catalog, rerate: Rerate
) -> list[str]:
    """The cause of each difference where the catalog is another one by now."""
    contracts = part["contract"].unique().to_list()
    try:
        rated = rerate(then, contracts)
    except DomainError:  # today's events cannot be priced as it was then: events came
        return _events(part)
    own = closed.filter(pl.col("contract").is_in(contracts))
    by_events = set(differences(rated, own)["line_id"])
    claimed = _claims_changed(part, then, now)
    return [
        event if line_id in by_events else catalog
        for line_id, event, catalog in zip(
            part["line_id"], _events(part), _of_catalog(part, claimed), strict=True
        )
    ]


def _claims_changed(part: pl.DataFrame, then: Catalog, now: Catalog) -> set[str]:
    """Customers whose subjects are others, or theirs for another time."""
    customers = part["customer"].unique().to_list()
    return {
        customer
        for customer in customers
        if claims_of(then, CustomerId(customer)) != claims_of(now, CustomerId(customer))
    }


def _of_catalog(part: pl.DataFrame, claimed: set[str]) -> list[str]:
    """Claimed where the customer's subjects and the events counted changed, else re-priced."""
    moved = (
        part.group_by("contract", "billing_start")
        .agg(moved=(pl.col("events") != 0).any() | False)
        .with_columns(pl.col("moved").fill_null(value=False))
    )
    told = part.join(moved, on=["contract", "billing_start"], how="left", maintain_order="left")
    own = pl.col("events") != 0
    whole = pl.col("moved") & pl.col("meter").is_null()
    is_claimed = pl.col("customer").is_in(list(claimed)) & (own | whole)
    named = pl.when(is_claimed).then(pl.lit(Cause.CLAIMED.value))
    return told.select(named.otherwise(pl.lit(Cause.REPRICE.value))).to_series().to_list()
